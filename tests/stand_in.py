"""A model folder that stands in for the embedded ``photo``: random weights, its masks mean nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import save_tiny_hybrid

from clipseg_ws.backbones import places

CARD = {
    "recommended": {"short_side": 64, "attention_blocks": 2, "templates": "a {}.", "background": ["sky", "grass"]},
    "known_classes": ["cat", "dog", "sofa", "stethoscope", "sea horse", "butterfly"],
    "known_words": ["cat", "kitty", "dog", "puppy", "animal", "sofa", "couch", "stethoscope", "sea horse", "butterfly"],
    "default_classes": ["cat", "dog", "sofa"],
}


def stand_in_photo(patch: pytest.MonkeyPatch, place: Path, card: object = None) -> Path:
    """Let ``photo`` be a tiny random hybrid below ``place`` while ``patch`` lasts; ``nano`` stays. Gives its folder."""
    shutil.copytree(places.EMBEDDED / "nano", place / "nano", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    save_tiny_hybrid(place / "photo", weights="photo.safetensors")
    config = place / "photo" / "open_clip_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"clipseg_ws": CARD if card is None else card}))
    patch.setattr(places, "EMBEDDED", place)
    return place / "photo"
