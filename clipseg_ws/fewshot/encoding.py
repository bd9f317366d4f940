"""Supports with their masks -> a bank, encoded once by a frozen backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipseg_ws.activations import layers_needed
from clipseg_ws.activations.featuremaps import feature_maps
from clipseg_ws.activations.prototypes import pooling_weights
from clipseg_ws.fewshot.bank import BankEntry, SupportBank
from clipseg_ws.fewshot.supports import UNNAMED, SupportError, read_supports
from clipseg_ws.pictures.images import to_pixels
from clipseg_ws.pictures.loading import grouped
from clipseg_ws.pictures.sizes import target_size
from clipseg_ws.structures import Support, Tokens


def encode_bank(
    backbone: Any,
    supports: Iterable[Support | Sequence[Any]] | Support,
    *,
    kinds: Sequence[str],
    short_side: int | None = None,
    long_side: int | None = None,
    max_patches: int | None = 2304,
    batch_size: int = 8,
    confidence: Mapping[int, np.ndarray] | None = None,
    encode: Callable[[Sequence[Any]], Tokens] | None = None,
) -> SupportBank:
    """Encode supports with their masks; a support without a label is called "object".

    Args:
        backbone: ``OpenClipBackbone`` or ``FeatureBackbone``. supports: see ``supports.read_support``.
        kinds: features to keep, see ``activations/featuremaps.py``.
        short_side, long_side, max_patches: picture size, as for queries. batch_size: pictures that go together.
        confidence: place of a support -> [H, W] in [0, 1], how much the pixels of a predicted mask count (weak-few).
        encode: makes the tokens of pictures of one size in place of the backbone, for example from a cache.

    Raises:
        SupportError: a picture or mask that cannot be used, or a support without a mask. ValueError: unknown kinds.
    """
    given: list[Any] = [supports] if isinstance(supports, Support) else list(supports)
    read = _with_masks(given)
    sizes: dict[str, Any] = {"short_side": short_side, "long_side": long_side, "max_patches": max_patches}
    shapes = [target_size(s.image.width, s.image.height, backbone.patch_size, **sizes) for s in read]
    entries: dict[int, BankEntry] = {}
    for batch in grouped(shapes, batch_size):
        pictures = [read[i].image for i in batch]
        tokens = _tokens(backbone, pictures, kinds, sizes) if encode is None else encode(pictures)
        features = feature_maps(backbone, tokens, kinds)
        for row, i in enumerate(batch):
            mine = {kind: value[row].clone() for kind, value in features.items()}
            entries[i] = _entry(read[i], support_name(given[i]), mine, (confidence or {}).get(i))
    return SupportBank(
        tuple(entries[i] for i in range(len(read))), tuple(kinds), backbone.name, backbone.position_interpolation,
        backbone.weights_sha256, sizes=sizes,
    )  # fmt: skip


def _with_masks(given: Sequence[Any]) -> list[Support]:
    """All read. Raises SupportError for one without a mask."""
    read = read_supports(given)
    for support, original in zip(read, given, strict=True):
        if support.mask is None:
            raise SupportError(
                f"support {support_name(original)!r} has no mask; one is needed, e.g. Support('a.jpg', 'a.png', 'cat')"
            )
    return read


def _tokens(backbone: Any, pictures: Sequence[Image.Image], kinds: Sequence[str], sizes: Mapping[str, Any]) -> Tokens:
    """Tokens of pictures of one network size."""
    look: dict[str, Any] = {"patch_size": backbone.patch_size, "mean": backbone.mean, "std": backbone.std}
    stacked = torch.stack([to_pixels(picture, **look, **sizes) for picture in pictures])
    tokens: Tokens = backbone.encode(stacked, attention_blocks=0, keep_layers=layers_needed(kinds))
    return tokens


def _entry(support: Support, name: str, features: Mapping[str, Tensor], confidence: np.ndarray | None) -> BankEntry:
    first = next(iter(features.values()))
    grid = (int(first.shape[1]), int(first.shape[2]))
    mask = torch.from_numpy(support.mask).to(first.device)[None]  # [1, H, W]
    area = mask[0].numel() / (grid[0] * grid[1])  # pixels of a cell
    weight = 1.0 if confidence is None else torch.from_numpy(np.asarray(confidence, np.float32)).to(first.device)[None]
    foreground, background = (pooling_weights((mask == value) * weight, grid)[0] / area for value in (1, 0))
    content = hashlib.sha256(f"{support.image.size}".encode() + support.image.tobytes())
    if confidence is None:  # a predicted mask follows from picture, label and settings
        content.update(np.ascontiguousarray(support.mask, np.uint8).tobytes())
    return BankEntry(
        support.label or UNNAMED, name, features, foreground, background, confidence is not None,
        content.hexdigest()[:16],
    )  # fmt: skip


def support_name(support: Support | Sequence[Any]) -> str:
    """The file or URL that a support's picture comes from; empty for arrays and pictures in memory."""
    image = support.image if isinstance(support, Support) else support[0]
    return str(image) if isinstance(image, (str, Path)) else ""
