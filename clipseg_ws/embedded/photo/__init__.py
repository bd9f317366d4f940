"""The embedded model that knows photos: a hybrid vision transformer trained from image labels, its training, its card.

Importing this package imports nothing else; ``load_backbone("photo")`` reads the files ``WEIGHTS`` and ``CONFIG``.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).with_name("photo.safetensors")
CONFIG = Path(__file__).with_name("open_clip_config.json")
