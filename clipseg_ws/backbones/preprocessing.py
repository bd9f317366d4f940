"""What a model folder says about pictures and texts: honoured where it can be, an error where it contradicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipseg_ws.backbones.declared import read_json as read_json

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MeanStd = tuple[tuple[float, float, float], tuple[float, float, float]]
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
TOKENIZER_FILES = ("vocab.json", "tokenizer.json")


def from_open_clip(config: Mapping[str, Any], model_cfg: Mapping[str, Any], path: Path) -> MeanStd:
    """Mean and std of an ``open_clip_config.json``; open_clip's default (CLIP's own) where it says nothing.

    Raises:
        ValueError: mean or std no three numbers for pixels in [0, 1]; a picture size other than the model's.
    """
    cfg = config.get("preprocess_cfg") or {}
    native = model_cfg["vision_cfg"].get("image_size", 224)
    if cfg.get("size") is not None:
        _check_size(_pair(cfg["size"]), _pair(native), path)
    return _mean_std(cfg.get("mean", CLIP_MEAN), cfg.get("std", CLIP_STD), path)


def from_transformers(
    folder: Path, image_size: int | Sequence[int] | None, default: MeanStd = (CLIP_MEAN, CLIP_STD)
) -> MeanStd:
    """Mean and std of a transformers processor configuration; ``default`` where the folder has none.

    ``image_size`` None: of a model for pictures of any size.

    Raises:
        ValueError: as ``from_open_clip``, or a rescaling other than by 1/255.
    """
    path = next((folder / name for name in PROCESSOR_FILES if (folder / name).is_file()), None)
    if path is None:
        return default
    config = read_json(path)
    config = config.get("image_processor", config)
    size = config.get("crop_size" if config.get("do_center_crop", True) else "size", config.get("size"))
    if size is not None and image_size is not None:
        _check_size(_pair(size), _pair(image_size), path)
    if not config.get("do_rescale", True) or abs(config.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-3:
        raise ValueError(f"{path}: pixels must be rescaled by 1/255 to [0, 1], rescale_factor 0.00392156862745098")
    if not config.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return _mean_std(config.get("image_mean", default[0]), config.get("image_std", default[1]), path)


def check_tokenizer(folder: Path) -> None:
    """Raise ValueError where the folder brings a vocabulary that is not CLIP's. A folder without one is fine."""
    path = next((folder / name for name in TOKENIZER_FILES if (folder / name).is_file()), None)
    if path is None:
        return
    from clipseg_ws.backbones.layout import CLIP_END_OF_TEXT
    from clipseg_ws.backbones.words import clip_tokenizer_module

    content = read_json(path)
    found = (content.get("model") or {}).get("vocab") if path.name == "tokenizer.json" else content
    wanted = clip_tokenizer_module().SimpleTokenizer().encoder  # but for its two special tokens
    same = sum(found.get(token) == index for token, index in wanted.items()) if isinstance(found, dict) else 0
    if same < 0.99 * len(wanted):
        raise ValueError(
            f"{path} is not CLIP's vocabulary: {same} of {len(wanted)} entries agree (for example 'cat</w>' must be "
            f"{wanted['cat</w>']}, the end of text {CLIP_END_OF_TEXT}); only CLIP's tokenizer is supported"
        )


def _mean_std(mean: Any, std: Any, path: Path) -> MeanStd:
    """Both as 3-tuples. Raises ValueError unless they fit pixels in [0, 1]."""
    for name, values, low in (("mean", mean, 0.0), ("std", std, 1e-3)):
        if (
            not isinstance(values, list | tuple)
            or len(values) != 3
            or not all(isinstance(v, int | float) and low <= v <= 1 for v in values)
        ):
            raise ValueError(
                f"{path}: {name} is {values}; three numbers for RGB pixels in [0, 1] are expected, "
                f"for example {list(CLIP_MEAN if name == 'mean' else CLIP_STD)}"
            )
    return tuple(map(float, mean)), tuple(map(float, std))  # type: ignore[return-value]


def _pair(size: Any) -> tuple[int, int]:
    """(height, width) of 224, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 224}."""
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge", size.get("longest_edge", 0))
        return int(size.get("height", edge)), int(size.get("width", edge))
    if isinstance(size, Sequence):
        return int(size[0]), int(size[-1])
    return int(size), int(size)


def _check_size(given: tuple[int, int], native: tuple[int, int], path: Path) -> None:
    if given != native:
        raise ValueError(
            f"{path} prepares pictures of {given[0]}x{given[1]}, the model's position table is for "
            f"{native[0]}x{native[1]}: the file belongs to another model (other picture sizes need no change in it)"
        )
