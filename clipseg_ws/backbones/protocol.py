"""What the package asks of a vision model: ``PictureModel`` sees, ``Backbone`` also speaks. Importing it is light.

A family of backbones is a class with these members (no base class is needed) and one line in ``families.py``.
Everything outside this room goes through them: nothing reaches into a library's modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clipseg_ws.backbones.card import ModelCard
    from clipseg_ws.backbones.last_block import LastBlockParts
    from clipseg_ws.structures import Tokens

POSITION_INTERPOLATIONS = ("bicubic", "bilinear", "bicubic-offset")  # see positions.py


class PictureModel(Protocol):
    """A frozen network that turns pictures into patch tokens: all that matching pictures needs.

    Attributes:
        name: what it was loaded by. mean, std: RGB normalisation of pixels in [0, 1], three numbers each.
        patch_size: side of a patch in pixels. width: D of the tokens. depth: number of blocks.
        position_interpolation: one of ``POSITION_INTERPOLATIONS``, or "own" where the model knows its own way.
        device, dtype: of the vision tower; pixels are brought to both.
        weights_sha256: digest of all weights, the same on every device.
    """

    @property
    def name(self) -> str: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def position_interpolation(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def weights_sha256(self) -> str: ...

    def encode(self, pixels: Tensor, *, attention_blocks: int = 8, keep_layers: Sequence[int] = ()) -> Tokens:
        """[B, 3, H, W] normalised, H and W multiples of the patch size -> ``Tokens``.

        Args:
            attention_blocks: number of last blocks whose attention is averaged; 0 for none.
            keep_layers: 0-based blocks whose patch tokens are kept.

        Raises:
            ValueError: sizes or indices out of range.
        """
        ...

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all weights to ``device``; the vision tower gets ``dtype``, a text tower float32."""
        ...


class Backbone(PictureModel, Protocol):
    """A picture model whose patches can be compared with texts.

    Attributes:
        native_grid: (h, w) patches of the picture size it was trained at. embed_dim: E. heads: of the last block.
        logit_scale: factor of the cosine that the model was trained with. logit_bias: of models trained with a sigmoid
            for every pair (SigLIP), whose probability is sigmoid(logit_scale cosine + logit_bias); None: by a softmax.
        tokenizer: list of T strings -> [T, context] int64.
        card: what the model says of itself; recommended, known_classes: of it.
        last_block: the weights of the last block and of what follows it, as they are now.
    """

    @property
    def native_grid(self) -> tuple[int, int]: ...
    @property
    def embed_dim(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def logit_scale(self) -> float: ...
    @property
    def logit_bias(self) -> float | None: ...
    @property
    def tokenizer(self) -> Callable[[list[str]], Tensor]: ...
    @property
    def card(self) -> ModelCard: ...
    @property
    def recommended(self) -> Mapping[str, Any]: ...
    @property
    def known_classes(self) -> tuple[str, ...]: ...
    @property
    def last_block(self) -> LastBlockParts: ...

    def embed(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, E] embedding of the pictures as the library computes it, not normalised."""
        ...

    def embed_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """T strings -> [T, E] float32 unit vectors on the model's device. Raises ValueError for an empty list."""
        ...

    def block_qkv(
        self, index: int, tokens: Tensor, grid: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [B, heads, L, d] of block ``index`` for tokens [B, L, D] that enter it, patches of ``grid`` last.

        ``grid`` is needed by rotary positions only.
        """
        ...

    def with_positions(self, position_interpolation: str, *, compile: bool = False) -> Backbone:
        """The same weights with another position interpolation, blocks compiled or not; nothing is copied."""
        ...


def speaks(model: PictureModel) -> TypeGuard[Backbone]:
    """True for a ``Backbone``, False for a model of pictures only. Computes nothing (an ``isinstance`` would hash)."""
    return hasattr(type(model), "embed_text")
