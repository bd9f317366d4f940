"""Patch features of any transformers vision transformer (DINOv2, DINOv3, ViT, CLIP's or SigLIP's vision tower, ...).

Self-supervised features match pictures with pictures better than CLIP's; CLIP goes on supplying the names. The adapter
is a ``protocol.PictureModel``: it has what matching needs, and no texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.backbones.common import check_layers, check_pixels
from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.backbones.feature_kinds import inputs_of, kind_of, one_size
from clipseg_ws.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from clipseg_ws.structures import Tokens


class FeatureBackbone:
    """A frozen vision transformer of ``transformers`` as a source of patch features, a ``protocol.PictureModel``.

    Args:
        model: gives ``last_hidden_state`` [B, extra + N, D], patches last, row by row, or [B, D, h, w] (SAM); its
            ``config`` has ``patch_size``. It is put into eval mode, its attention is set to "eager", which returns what
            it computes.
        name: what it was loaded by. mean, std: RGB normalisation of pixels in [0, 1].

    Raises:
        UnsupportedBackbone: no patch size (a convolutional or windowed network), or patches that are not square.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str = "custom",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        self.patch_size = _patch_size(model)
        self.model = model.eval().requires_grad_(False)
        if hasattr(model, "set_attn_implementation"):
            model.set_attn_implementation("eager")
        self.name = name
        self.mean = tuple(float(v) for v in mean)
        self.std = tuple(float(v) for v in std)
        self.one_size = one_size(model)
        self.width = int(getattr(model.config, "output_channels", model.config.hidden_size))
        self.depth = int(model.config.num_hidden_layers)
        self.position_interpolation = "own"
        self._inputs = inputs_of(model)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights; pixels are cast to it."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 over names, shapes and values of all weights, rounded to bfloat16: the same on every device and in
        float32 and bfloat16."""
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(f"{key}{tuple(value.shape)}".encode())
            digest.update(value.detach().bfloat16().cpu().contiguous().view(torch.int16).numpy().tobytes())
        activation = str(getattr(getattr(self.model, "config", None), "hidden_act", "gelu"))
        if activation != "gelu":  # the same weights are another model then
            digest.update(activation.encode())
        return digest.hexdigest()

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all weights to ``device`` in ``dtype``."""
        if device.type != "cpu":
            _ = self.weights_sha256  # on the host: a GPU would send every weight back
        self.model.to(device=device, dtype=dtype)

    @torch.no_grad()
    def encode(self, pixels: Tensor, *, attention_blocks: int = 8, keep_layers: Sequence[int] = ()) -> Tokens:
        """Features and attention of pictures.

        Args:
            pixels: [B, 3, H, W] normalised; H and W multiples of the patch size. A model of one size only (SAM): pixels
                are resized to it, and the tokens have its grid.
            attention_blocks: number of last blocks whose attention is averaged over heads and blocks; 0 for none.
            keep_layers: 0-based blocks whose patch tokens are kept.

        Returns:
            ``Tokens`` whose ``last_input`` is what **leaves** the model: [B, 1+N, D], class token (the mean patch where
            there is none) first, register tokens dropped. ``attention`` [B, N, N] between patches, not renormalised;
            None where it was not asked for or the model does not give it.

        Raises:
            ValueError: sizes or indices out of range, or an output without the patch grid.
        """
        check_pixels(pixels, self.patch_size, f" of {self.name}")
        check_layers(keep_layers, self.depth, f" of {self.name}")
        if self.one_size is not None:
            pixels = F.interpolate(pixels.float(), size=self.one_size, mode="bilinear", align_corners=False)
        kind = kind_of(self.model)
        if kind is not None and not kind.about["affinity"]:  # attention inside windows is none between all patches
            attention_blocks = 0
        if attention_blocks:  # every block's attention is held at once: one picture at a time
            parts = [self._forward(row, attention_blocks, keep_layers) for row in torch.split(pixels, 1)]
            return _join(parts)
        return self._forward(pixels, 0, keep_layers)

    def _forward(self, pixels: Tensor, attention_blocks: int, keep_layers: Sequence[int]) -> Tokens:
        grid = (pixels.shape[2] // self.patch_size, pixels.shape[3] // self.patch_size)
        out = self._run(pixels.to(self.device, self.dtype), attention_blocks > 0, bool(keep_layers))
        hidden = out.last_hidden_state
        if hidden.ndim == 4:  # [B, D, h, w]: SAM, ViTDet
            grid = (int(hidden.shape[2]), int(hidden.shape[3]))
            hidden = hidden.flatten(2).transpose(1, 2)
        count = grid[0] * grid[1]
        extra = hidden.shape[1] - count if hidden.ndim == 3 else -1
        if extra < 0:
            raise ValueError(
                f"{type(self.model).__name__} gave an output of shape {tuple(hidden.shape)} for {grid[0]}x{grid[1]} "
                f"patches; [B, tokens, D] with at least {count} tokens is needed, for example transformers.Dinov2Model"
            )
        first = hidden[:, :1] if extra else hidden.mean(1, keepdim=True)
        layers = {i: _rows(out.hidden_states[i + 1], count) for i in keep_layers}
        attention = _mean_attention(getattr(out, "attentions", None), attention_blocks, extra)
        return Tokens(torch.cat([first, hidden[:, extra:]], 1), attention, layers, grid)

    def _run(self, pixels: Tensor, attention: bool, layers: bool) -> Any:
        """The model's own output. Raises UnsupportedBackbone where it does not take a batch of pictures."""
        more = {"output_attentions": True} if attention else {}
        try:
            return self.model(**self._inputs(self.model, pixels), output_hidden_states=layers, **more)
        except (TypeError, RuntimeError, ValueError, AttributeError, AssertionError) as error:
            if "memory" in str(error).lower():
                raise
            raise UnsupportedBackbone(
                f"{type(self.model).__name__} does not take pictures {tuple(pixels.shape)} as a ViT does "
                f"({str(error)[:160]}); use for example transformers.Dinov2Model or 'hf:facebook/dinov2-base'"
            ) from error


def _patch_size(model: Any) -> int:
    size = getattr(getattr(model, "config", None), "patch_size", None)
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    if len(sides) != 2 or sides[0] != sides[1] or not all(
        hasattr(model.config, key) for key in ("num_hidden_layers", "hidden_size")
    ):
        raise UnsupportedBackbone(
            f"{type(model).__name__} cannot supply patch features (patch_size={size}); a ViT with square "
            "patches is needed, for example transformers.Dinov2Model or 'hf:facebook/dinov2-base'"
        )
    return int(sides[0])


def _rows(hidden: Tensor, count: int) -> Tensor:
    """[B, tokens, D], [B, h, w, D] or [B, D, h, w] that leaves a block -> its patches [B, N, D]."""
    if hidden.ndim == 4:
        channels_last = hidden.shape[1] * hidden.shape[2] == count
        hidden = hidden.flatten(1, 2) if channels_last else hidden.flatten(2).transpose(1, 2)
    return hidden[:, hidden.shape[1] - count :]


def _mean_attention(attentions: Any, blocks: int, extra: int) -> Tensor | None:
    """Tuple of [B, heads, L, L] -> [B, N, N] mean over heads and the last blocks, leading tokens dropped."""
    if not blocks or not attentions or any(a is None for a in attentions):
        return None
    last = [a[:, :, extra:, extra:].float().mean(1) for a in attentions[-blocks:]]
    return torch.stack(last).mean(0)


def _join(parts: Sequence[Tokens]) -> Tokens:
    """Tokens of single pictures -> one batch."""
    attention = [p.attention for p in parts if p.attention is not None]
    layers = {i: torch.cat([p.layers[i] for p in parts]) for i in parts[0].layers}
    return Tokens(
        torch.cat([p.last_input for p in parts]), torch.cat(attention) if attention else None, layers, parts[0].grid
    )
