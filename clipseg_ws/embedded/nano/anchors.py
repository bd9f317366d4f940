"""First part of the training: the text tower alone learns which words mean the same and which do not.

Without it the names of all things collapse onto one another while the vision tower knows nothing but "thing or
ground", and the way out of that plateau takes most of the training. Here every concept (a kind or a ground) gets a
fixed direction, all directions at right angles; a prompt is pulled to its concept, a caption to the mean of its
concepts, any other word to one direction of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from clipseg_ws.embedded.losses import text_walk
from clipseg_ws.embedded.nano.scenes import BACKGROUNDS, KINDS
from clipseg_ws.embedded.nano.texts import caption_list, word_list
from clipseg_ws.embedded.training import text_parameters


def anchors(width: int, seed: int) -> torch.Tensor:
    """[len(KINDS) + len(BACKGROUNDS) + 1, width] unit vectors at right angles; the last one is for other words."""
    noise = np.random.default_rng((seed, 17)).normal(size=(width, width))
    rows = np.linalg.qr(noise)[0][: len(KINDS) + len(BACKGROUNDS) + 1]
    return torch.from_numpy(np.ascontiguousarray(rows)).float()


def _captions(rng: np.random.Generator, count: int, directions: torch.Tensor) -> tuple[list[str], torch.Tensor]:
    """Captions of invented scenes and their unit targets [count, E]."""
    tags = torch.from_numpy(rng.random((count, len(KINDS))) < rng.uniform(0.05, 0.3, (count, 1)))
    grounds = torch.from_numpy(rng.integers(len(BACKGROUNDS), size=count))
    mean = tags.float() @ directions[: len(KINDS)] + directions[len(KINDS) + grounds]
    return caption_list(rng, tags, grounds), F.normalize(mean, dim=-1)


def anchor_loss(words: torch.Tensor, directions: torch.Tensor, scale: float = 15.0) -> torch.Tensor:
    """Cross-entropy of unit word embeddings [T, E] against the anchors [A, E]; words past the concepts are "other"."""
    concepts = len(directions) - 1
    truth = torch.arange(len(words), device=words.device).clamp(max=concepts)
    near = 1 - (words[:concepts] * directions[:concepts]).sum(-1)
    return F.cross_entropy(scale * words @ directions.T, truth) + near.mean()


def anchor_texts(model: Any, tokenizer: Any, vocabulary: list[str], steps: int, seed: int, lr: float = 4e-3) -> None:
    """Train the text tower of ``model`` in place for ``steps`` steps; determined by ``seed``."""
    device = model.text_projection.device
    directions = anchors(model.text_projection.shape[1], seed).to(device)
    optimiser = torch.optim.Adam(text_parameters(model), lr=lr, betas=(0.9, 0.98))
    for step in range(steps):
        rng = np.random.default_rng((seed, step, 3))
        words = word_list(rng, vocabulary).prompts
        captions, target = _captions(rng, 16, directions.cpu())
        embeddings = text_walk(model, tokenizer([*words, *captions]).to(device))
        whole = 1 - (embeddings[len(words) :] * target.to(device)).sum(-1)
        loss = anchor_loss(embeddings[: len(words)], directions) + whole.mean()
        optimiser.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 50) * (1 - 0.95 * step / max(1, steps))
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
