"""The family ``hybrid``: a convolutional network in place of the patch embedding, then CLIP's vision transformer.

A stem that has learned from ImageNet knows edges, textures and parts; the transformer behind it needs to learn only
what they have to do with words (Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.1, hybrid
architecture). The stem is an EfficientNet-Lite (Tan & Le, ICML 2019) with timm's names; its weights are part of the
model's own file, timm's are never asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.backbones.efficientnet import EfficientNetLite
from clipseg_ws.backbones.plain_clip import PlainClip, is_plain

# name -> (index of the last block at strides 8 and 16, channels at strides 8, 16 and 32)
STEMS = {
    "tf_efficientnet_lite0": ((2, 4), (40, 112, 1280)),
    "tf_efficientnet_lite2": ((2, 4), (48, 120, 1280)),
}
STRIDES = (8, 16, 32)
PATCH = 16


class ConvStem(nn.Module):
    """Pixels to patches of 16 pixels: features of strides 16 and 32, each normalised, joined and projected.

    Args:
        name: a key of ``STEMS``. width: D, of the transformer behind it.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> ConvStem("tf_efficientnet_lite0", 32)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 32, 4, 6])
    """

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        if name not in STEMS:
            raise ValueError(f"the stem {name!r} is unknown; choose one of {', '.join(STEMS)}")
        self.name = name
        self.ends, channels = STEMS[name]
        self.trunk = EfficientNetLite(name)
        self.norm16 = nn.LayerNorm(channels[1])
        self.norm32 = nn.LayerNorm(channels[2])
        self.project = nn.Linear(channels[1] + channels[2], width)

    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, H, W] normalised -> features of strides 8, 16 and 32: [B, C, H/8, W/8] and so on, sides rounded up."""
        trunk: Any = self.trunk
        levels: list[Tensor] = []
        x = trunk.bn1(trunk.conv_stem(pixels))
        for index, block in enumerate(trunk.blocks):
            x = block(x)
            if index in self.ends:
                levels.append(x)
        return levels[0], levels[1], trunk.bn2(trunk.conv_head(x))

    def join(self, x16: Tensor, x32: Tensor) -> Tensor:
        """Features of strides 16 [B, C, h, w] and 32 -> patches [B, D, h, w]."""
        x32 = F.interpolate(x32, size=x16.shape[-2:], mode="bilinear", align_corners=False)
        rows = torch.cat([self.norm16(x16.permute(0, 2, 3, 1)), self.norm32(x32.permute(0, 2, 3, 1))], dim=-1)
        patches: Tensor = self.project(rows).permute(0, 3, 1, 2)
        return patches

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W], sides multiples of 16 -> [B, D, H/16, W/16]."""
        _, x16, x32 = self.features(pixels)
        return self.join(x16, x32)


def is_hybrid(model_cfg: Mapping[str, Any]) -> bool:
    """Whether open_clip's configuration names a stem (``vision_cfg.stem``), which open_clip itself does not know."""
    return model_cfg["vision_cfg"].get("stem") is not None


def odd_stem(model_cfg: Mapping[str, Any]) -> str | None:
    """Why the stem that a configuration names cannot be built, or None; also None where it names none."""
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if not is_hybrid(model_cfg):
        return None
    if vision["stem"] not in tuple(STEMS):
        return f"its convolutional stem {vision['stem']!r} is unknown; known are {', '.join(STEMS)}"
    if vision.get("patch_size", PATCH) != PATCH:
        return f"its patches are of {vision['patch_size']} pixels; a convolutional stem makes patches of {PATCH}"
    if vision.get("timm_model_name") or text.get("hf_model_name") or "multimodal_cfg" in model_cfg:
        return f"its stem {vision['stem']!r} is not followed by open_clip's own vision transformer and text tower"
    return None


def plain_configuration(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without the stem: what open_clip builds, with a patch embedding that is then replaced."""
    vision = {key: value for key, value in model_cfg["vision_cfg"].items() if key != "stem"}
    return {**model_cfg, "vision_cfg": vision}


def empty_hybrid(model_cfg: Mapping[str, Any]) -> Any:
    """A CLIP whose patch embedding is the stem, with random weights (on the meta device inside one).

    Raises:
        ValueError: see ``odd_stem``.
    """
    reason = odd_stem(model_cfg)
    if reason:
        raise ValueError(f"this hybrid model cannot be built: {reason}")
    model = empty_clip(plain_configuration(model_cfg))
    model.visual.conv1 = ConvStem(model_cfg["vision_cfg"]["stem"], model.visual.conv1.out_channels)
    return model


def empty_clip(model_cfg: Mapping[str, Any]) -> Any:
    """A CLIP of a configuration without a stem: a ``PlainClip`` where that is all, else open_clip's (a slow import)."""
    if is_plain(model_cfg):
        return PlainClip(model_cfg)
    from open_clip.model import CLIP

    return CLIP(**model_cfg)
