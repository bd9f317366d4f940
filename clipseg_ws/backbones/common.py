"""What the backbones share: the checks of a request, texts by batches, the name of a model's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PLAIN_GELU = "GELU(approximate='none')"


def check_request(
    pixels: Tensor, attention_blocks: int, keep_layers: Sequence[int], *, patch_size: int, depth: int
) -> None:
    """Raises ValueError for what ``encode`` of a tower with ``depth`` blocks cannot take."""
    p = patch_size
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[2] % p or pixels.shape[3] % p:
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}; [B, 3, H, W] with H and W multiples of the patch size {p} "
            f"is needed, for example [1, 3, {24 * p}, {32 * p}] (pictures.images.to_pixels resizes so)"
        )
    if attention_blocks < 0:
        raise ValueError(f"attention_blocks={attention_blocks}; 0 (none) to {depth} are possible, for example 8")
    if any(not 0 <= i < depth - 1 for i in keep_layers):
        raise ValueError(f"keep_layers={tuple(keep_layers)}; indices 0 to {depth - 2} can be kept")


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
    since the same weights are another model then: the same on every device."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    for key, module in model.named_modules():
        activation = key.endswith(".mlp.gelu") or "GELU" in type(module).__name__
        if activation and repr(module) != PLAIN_GELU:
            digest.update(f"{key} {module!r}".encode())
    return digest.hexdigest()
