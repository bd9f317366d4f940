"""Which files are pictures, by suffix, and which of them this installation cannot read. No torch, no Pillow."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
    ".jp2", ".avif", ".heic", ".heif",
)  # fmt: skip
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
HEIF = (".heic", ".heif")


@cache
def unreadable(suffix: str) -> str:
    """Why a file of this suffix is not read here, "" where it is or where it is no picture at all."""
    suffix = suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "a video; only pictures are read, take its frames: ffmpeg -i clip.mp4 -vf fps=2 frames/%06d.jpg"
    if suffix in HEIF and find_spec("pillow_heif") is None:
        return "a HEIC picture, which needs pillow-heif: pip install 'clipseg_ws[heif]'"
    feature = {".jp2": "jpg_2000", ".avif": "avif"}.get(suffix)
    if feature is not None:
        from PIL import features

        if not features.check(feature):
            return f"a {suffix} picture, which this Pillow was built without"
    return ""


def readable(files: list[Path], root: Path) -> list[Path]:
    """The pictures among files. Warns of videos and of pictures that cannot be read here; raises ValueError where
    there is nothing else."""
    left: dict[str, list[str]] = {}
    kept = []
    for file in files:
        suffix = file.suffix.lower()
        if reason := unreadable(suffix):
            left.setdefault(reason, []).append(file.name)
        elif suffix in IMAGE_SUFFIXES:
            kept.append(file)
    for reason, names in left.items():
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        text = f"{len(names)} files in {str(root)!r} are left out ({some}): each is {reason}"
        if not kept:
            raise ValueError(text)
        warnings.warn(text, UserWarning, stacklevel=3)
    return kept
