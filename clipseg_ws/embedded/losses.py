"""What the embedded models are trained with: image-text, region-text, attention and activation-map losses.

The walk here keeps what the losses need (the value path, the attention of the last blocks) in the graph; at inference
the backbone's own walk gives the same numbers. Sources: CLIP (contrast), MaskCLIP (value path), CLIP-ES (mean of the
patch tokens, softmax-GradCAM, attention affinity). Letters as in ``structures.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class Walk:
    """One differentiable pass: ``norm`` [B, 1+N, D] (ln_1 of the last block), ``cls`` and ``pooled`` [B, E] unit
    vectors, ``values`` [B, N, E] unit vectors of the value path, ``attention`` [B, N, N] mean of the last blocks,
    ``grid`` (h, w)."""

    norm: Tensor
    cls: Tensor
    pooled: Tensor
    values: Tensor
    attention: Tensor
    grid: tuple[int, int]


def position_table(visual: Any, grid: tuple[int, int]) -> Tensor:
    """Position embedding [1 + h*w, D] for ``grid``, bicubic with antialias; the class position is kept."""
    table: Tensor = visual.positional_embedding
    native = visual.grid_size
    if tuple(native) == tuple(grid):
        return table
    square = table[1:].reshape(1, native[0], native[1], -1).permute(0, 3, 1, 2)  # [N0, D] -> [1, D, h0, w0]
    fitted = F.interpolate(square, size=grid, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:1], fitted.flatten(2)[0].T])  # [1, D, h, w] -> [N, D]


def _explicit_attention(block: Any, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Attention written out: (output [B, M, D], probabilities [B, heads, M, M], values [B, M, D])."""
    attn = block.attn
    batch, count, width = a.shape
    heads = attn.num_heads
    # [B, M, 3D] -> three of [B, heads, M, d]
    joined = F.linear(a, attn.in_proj_weight, attn.in_proj_bias).view(batch, count, 3, heads, -1)
    q, k, v = joined.permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) * (width // heads) ** -0.5).softmax(-1)
    mixed = (weights @ v).transpose(1, 2).reshape(batch, count, width)
    return attn.out_proj(mixed), weights, v.transpose(1, 2).reshape(batch, count, width)


def vision_walk(model: Any, pixels: Tensor, attention_blocks: int) -> Walk:
    """Walk over open_clip's vision tower; pixels [B, 3, H, W] normalised, H and W multiples of the patch."""
    return patch_walk(model.visual, model.visual.conv1(pixels), attention_blocks)


def patch_walk(visual: Any, patches: Tensor, attention_blocks: int) -> Walk:
    """The same from embedded patches [B, D, h, w], what the patch embedding or a stem makes of the pixels."""
    grid = (patches.shape[-2], patches.shape[-1])
    x = patches.flatten(2).transpose(1, 2)  # [B, D, h, w] -> [B, N, D]
    cls = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
    x = visual.ln_pre(torch.cat([cls, x], dim=1) + position_table(visual, grid).to(x.dtype))
    blocks = visual.transformer.resblocks
    maps = []
    for i, block in enumerate(blocks):
        if i < len(blocks) - attention_blocks:
            x = block(x)
            continue
        a = block.ln_1(x)
        output, weights, values = _explicit_attention(block, a)
        maps.append(weights.mean(1)[:, 1:, 1:])  # mean over heads, class row and column dropped: [B, N, N]
        x = x + output
        x = x + block.mlp(block.ln_2(x))
    y = visual.ln_post(x)
    pooled = y[:, 1:].mean(1) @ visual.proj
    dense = visual.ln_post(blocks[-1].attn.out_proj(values[:, 1:])) @ visual.proj
    unit = [F.normalize(t.float(), dim=-1) for t in (y[:, 0] @ visual.proj, pooled, dense)]
    return Walk(a, unit[0], unit[1], unit[2], torch.stack(maps).mean(0).float(), grid)


def text_walk(model: Any, tokens: Tensor) -> Tensor:
    """Unit text embeddings [T, E] of token rows [T, context]; columns after the longest text are not computed."""
    length = int((tokens != 0).sum(1).max())  # the mask is causal: what follows the end token cannot change it
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    ends = x[torch.arange(len(tokens), device=x.device), tokens.argmax(1)]
    return F.normalize((ends @ model.text_projection).float(), dim=-1)


def contrast(images: Tensor, captions: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """CLIP's symmetric loss of unit vectors [B, E]; ``same`` bool [B, B]: pairs of equal content, all positive."""
    logits = scale * images @ captions.T
    target = same.float() / same.float().sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def region_text(values: Tensor, texts: Tensor, scale: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
    """Cross-entropy of patches against texts, foreground and background patches weighted apart.

    values [B, N, E]; texts [T, E]; target [B, N, T] rows sum to 1; foreground [B, N] share in 0..1.
    """
    loss = -(target * (scale * values @ texts.T).log_softmax(-1)).sum(-1)  # [B, N]
    inside = (loss * foreground).sum() / foreground.sum().clamp(min=1e-6)
    outside = (loss * (1 - foreground)).sum() / (1 - foreground).sum().clamp(min=1e-6)
    return 0.6 * inside + 0.4 * outside


def same_region(attention: Tensor, shares: Tensor) -> Tensor:
    """Pull each patch's mean attention towards an even spread over the patches of its own region.

    attention [B, N, N]; shares [B, N, C] of the labels in each patch. Every label counts alike, however small it is.
    """
    sharp = shares**2 / (shares**2).sum(-1, keepdim=True)  # patches on an edge belong mostly to one side
    pairs = sharp @ sharp.transpose(1, 2)  # [B, N, N]
    target = pairs / pairs.sum(-1, keepdim=True).clamp(min=1e-6)
    loss = -(target * attention.clamp(min=1e-8).log()).sum(-1)  # [B, N]
    loss = loss - (-(target * target.clamp(min=1e-8).log()).sum(-1))  # divergence: zero when the spread is even
    sizes = shares.sum(1)  # [B, C]
    weight = (shares / sizes.clamp(min=1.0).unsqueeze(1)).sum(-1)  # [B, N]: each label of an image weighs one
    return (loss * weight).sum() / weight.sum()


def presence(pooled: Tensor, texts: Tensor, scale: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the pooled image against all words; pooled [B, E], target [B, T] rows sum to 1."""
    return F.cross_entropy(scale * pooled @ texts.T, target)


def activation_maps(walk: Walk, texts: Tensor, scale: Tensor, allowed: Tensor, chosen: Tensor) -> Tensor:
    """softmax-GradCAM of one class per image, differentiable: [B, N] in 0..1 (CLIP-ES).

    texts [T, E]; allowed bool [B, T]: the words in the softmax; chosen [B]: the class.
    """
    logits = (scale * walk.pooled @ texts.T).masked_fill(~allowed, -1e4)
    evidence = logits.softmax(-1).gather(1, chosen[:, None]).sum()
    (gradient,) = torch.autograd.grad(evidence, walk.norm, create_graph=True)
    weights = F.normalize(gradient[:, 1:].mean(1).float(), dim=-1, eps=1e-20)  # [B, D]; min-max removes the length
    maps = torch.einsum("bnd,bd->bn", walk.norm[:, 1:].float(), weights).relu()
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-6)


def boxed(maps: Tensor, grid: tuple[int, int], threshold: float = 0.4) -> Tensor:
    """Maps [B, N] of an h x w grid, zero outside the one box around all cells above ``threshold`` of the maximum."""
    high = torch.unflatten(maps >= threshold * maps.amax(1, keepdim=True), 1, grid)  # [B, h, w]
    masks = []
    for cells in (high.any(2), high.any(1)):  # [B, h], [B, w]: from the first to the last that is high
        masks.append(cells.cummax(1).values & cells.flip(1).cummax(1).values.flip(1))
    return maps * torch.flatten(masks[0][:, :, None] & masks[1][:, None], 1)


def spread(attention: Tensor, maps: Tensor, iterations: int = 3) -> Tensor:
    """Maps [B, N] spread twice along the balanced attention [B, N, N] (CLIP-ES), then brought to 0..1."""
    with torch.autocast(attention.device.type, enabled=False):
        a = attention.float()
        for _ in range(iterations):
            a = a / a.sum(1, keepdim=True)
            a = a / a.sum(2, keepdim=True)
        a = (a + a.transpose(1, 2)) / 2
        wide = (a @ (a @ maps.float()[..., None]))[..., 0]
    low, high = wide.amin(1, keepdim=True), wide.amax(1, keepdim=True)
    return (wide - low) / (high - low).clamp(min=1e-6)


def map_loss(maps: Tensor, share: Tensor) -> Tensor:
    """Soft Dice plus squared error of maps [B, N] against the class's share of each patch [B, N]."""
    dice = 1 - (2 * (maps * share).sum(1) + 0.5) / ((maps**2).sum(1) + (share**2).sum(1) + 0.5)
    error = (maps - share) ** 2
    inside = (error * share).sum(1) / share.sum(1).clamp(min=0.5)
    outside = (error * (1 - share)).sum(1) / (1 - share).sum(1).clamp(min=0.5)
    return (dice + inside + outside).mean()
