"""The embedded model: a small CLIP that knows drawn scenes, its scene generator, its training and its weights.

Importing this package imports nothing else; ``load_backbone("nano")`` reads the files ``WEIGHTS`` and ``CONFIG``.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).with_name("nano.safetensors")
CONFIG = Path(__file__).with_name("open_clip_config.json")
