"""What ``photo`` learns names of: VOC's 20 classes, the object photos' folders, ImageNet's 1,000, background words.

Only tables and readings of image labels; nothing here opens a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VOC = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
PERSON = VOC.index("person")
BACKGROUND_FOLDER = "BACKGROUND_Google"
# folders of the object photos that show a VOC class and nothing else of a name of its own
SAME = {
    "airplanes": "aeroplane", "car_side": "car", "Motorbikes": "motorbike", "dog": "dog", "horse": "horse",
    "person": "person", "chair": "chair",
}  # fmt: skip
# folders whose things are also one of VOC's
ALSO = {
    "ketch": "boat", "schooner": "boat", "ferry": "boat", "Faces": "person", "windsor_chair": "chair",
    "dalmatian": "dog", "pigeon": "bird", "rooster": "bird", "ibis": "bird", "emu": "bird", "flamingo": "bird",
    "flamingo_head": "bird",
}  # fmt: skip
# folders whose things might be called one of VOC's: that class is not judged there
MAYBE = {
    "wild_cat": "cat", "Leopards": "cat", "cougar_body": "cat", "cougar_face": "cat", "garfield": "cat",
    "wheelchair": "chair", "laptop": "tvmonitor", "bonsai": "pottedplant", "joshua_tree": "pottedplant",
    "lotus": "pottedplant", "water_lilly": "pottedplant", "sunflower": "pottedplant", "helicopter": "aeroplane",
    "snoopy": "dog", "grand_piano": "chair", "ewer": "bottle", "llama": "sheep", "gerenuk": "cow", "okapi": "horse",
}  # fmt: skip
# how a folder's thing is called
CALLED = {
    "Faces": "face", "Leopards": "leopard", "cougar_body": "cougar", "cougar_face": "cougar", "crocodile_head":
    "crocodile", "flamingo_head": "flamingo", "water_lilly": "water lily", "wild_cat": "wild cat", "yin_yang":
    "yin and yang", "cellphone": "cell phone", "sea_horse": "sea horse", "soccer_ball": "soccer ball",
}  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """A picture and what is known of it. ``present``, ``unknown``: indices of concepts; all others are absent."""

    path: Path
    present: tuple[int, ...]
    unknown: tuple[int, ...]


def folder_name(folder: str) -> str:
    """The name of a folder's things: "sea_horse" -> "sea horse"."""
    return CALLED.get(folder, folder.replace("_", " "))


def concept_names(folders: list[str]) -> list[str]:
    """VOC's classes, then the names of the folders that add one, sorted."""
    own = {folder_name(f) for f in folders if f not in SAME and f != BACKGROUND_FOLDER}
    return [*VOC, *sorted(own - set(VOC))]


def object_labels(folder: str, names: list[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(present, unknown) concepts of a folder's photos; a person may stand beside anything."""
    unknown = {PERSON}
    if folder == BACKGROUND_FOLDER:
        return (), tuple(unknown)
    present = {names.index(SAME[folder])} if folder in SAME else {names.index(folder_name(folder))}
    if folder in ALSO:
        present.add(names.index(ALSO[folder]))
    if folder in MAYBE:
        unknown.add(names.index(MAYBE[folder]))
    return tuple(sorted(present)), tuple(sorted(unknown - present))
