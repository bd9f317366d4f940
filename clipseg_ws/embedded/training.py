"""What the trainings of the embedded models share: the start of a text tower, weights as files, the log of a run."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


def text_parameters(model: Any) -> list[nn.Parameter]:
    """The parameters of an open_clip model's text tower."""
    return [p for n, p in model.named_parameters() if not n.startswith("visual.") and n != "logit_scale"]


def start_texts(model: Any) -> None:
    """Small random token embeddings and positions; the rest keeps open_clip's initial values."""
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    nn.init.normal_(model.positional_embedding, std=0.01)


def plain_vocabulary(tokenizer: Any) -> list[str]:
    """The entries of CLIP's tokenizer that are plain lower-case words or pieces, as text without the end mark."""
    pieces = [piece.removesuffix("</w>") for piece in tokenizer.encoder]
    return [piece for piece in pieces if piece.isascii() and piece.isalpha() and len(piece) > 2]


def save_half(weights: Mapping[str, Tensor], path: Path) -> None:
    """Weights as float16 safetensors under their names, written through a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({name: value.detach().to("cpu", torch.float16).contiguous() for name, value in weights.items()}, part)
    os.replace(part, path)


def log_rows(path: Path, done: int) -> list[dict[str, str]]:
    """Rows of the log of an earlier part of a run, up to step ``done``."""
    if not path.exists() or done == 0:
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) <= done]
