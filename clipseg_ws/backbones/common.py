"""What the backbones share: the checks of a request, texts by batches, the name of a model's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clipseg_ws.backbones.layout import COUNTER

PLAIN_GELU = "GELU(approximate='none')"


def check_request(
    pixels: Tensor, attention_blocks: int, keep_layers: Sequence[int], *, patch_size: int, depth: int
) -> None:
    """Raises ValueError for what ``encode`` of a tower with ``depth`` blocks cannot take."""
    check_pixels(pixels, patch_size)
    if attention_blocks < 0:
        raise ValueError(f"attention_blocks={attention_blocks}; 0 (none) to {depth} are possible, for example 8")
    check_layers(keep_layers, depth - 1)


def check_pixels(pixels: Tensor, patch_size: int, of: str = "") -> None:
    """Raises ValueError unless they are [B, 3, H, W] in whole patches; ``of``: " of MODEL", for the text."""
    p = patch_size
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[2] % p or pixels.shape[3] % p:
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}; [B, 3, H, W] with H and W multiples of the patch size {p}{of} "
            f"is needed, for example [1, 3, {24 * p}, {32 * p}] (pictures.images.to_pixels resizes so)"
        )


def check_layers(keep_layers: Sequence[int], count: int, of: str = "") -> None:
    """Raises ValueError for an index that is none of ``count`` blocks; ``of``: " of MODEL", for the text."""
    if any(not 0 <= i < count for i in keep_layers):
        raise ValueError(f"keep_layers={tuple(keep_layers)}; indices 0 to {count - 1}{of} can be kept")


def embed_texts(
    texts: Sequence[str],
    tokenizer: Callable[[list[str]], Tensor],
    encode: Callable[[Tensor], Tensor],
    batch_size: int,
    device: torch.device,
    ends: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """T strings -> [T, E] float32 unit vectors; ``encode`` takes at most ``batch_size`` token rows [t, context].

    ``ends``: token rows -> their lengths; prompts of like length then go together.

    Raises ValueError for an empty list.
    """
    if not texts:
        raise ValueError("embed_text got no texts; pass at least one, for example ['a photo of a cat.']")
    ids = tokenizer(list(texts))
    order = torch.arange(len(ids)) if ends is None else torch.argsort(ends(ids), stable=True)
    parts = [encode(ids[rows].to(device)).float() for rows in torch.split(order, batch_size)]
    return F.normalize(torch.cat(parts)[torch.argsort(order).to(device)], dim=-1)


def weights_digest(model: Any) -> str:
    """SHA-256 over names, shapes and float32 values of all weights, and over the activations where they are not GELU,
    since the same weights are another model then: the same on every device.

    Statistics of batch norms count as weights; how many steps they were gathered in does not.
    """
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if key.endswith(COUNTER):
            continue
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    for key, module in model.named_modules():
        activation = key.endswith(".mlp.gelu") or "GELU" in type(module).__name__
        if activation and repr(module) != PLAIN_GELU:
            digest.update(f"{key} {module!r}".encode())
    return digest.hexdigest()


def cast(tower: nn.Module, dtype: torch.dtype) -> None:
    """All weights of a vision tower to ``dtype``, but those of batch norms, which stay float32.

    A variance of three digits would bend every layer of a convolutional stem; torch takes inputs of another dtype.
    """
    norms = [(part, part.state_dict()) for part in tower.modules() if isinstance(part, _BatchNorm)]
    tower.to(dtype)
    for part, exact in norms:
        part.float().load_state_dict(exact)
