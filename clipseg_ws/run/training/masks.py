"""Masks for a head's training: from a folder of ``clipseg-ws pseudo`` (or a person's), and made anew with a head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from clipseg_ws.backbones.blocks import block_attentions
from clipseg_ws.door.errors import InputError
from clipseg_ws.door.plain import read_text
from clipseg_ws.door.state import read_record
from clipseg_ws.heads.base import Head
from clipseg_ws.heads.data import HeadData, Targets
from clipseg_ws.heads.features import FeatureSpec, encode_tokens, pixel_batch, shrink_target
from clipseg_ws.heads.feedback import feed_back
from clipseg_ws.output.formats import FORMATS
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.save import output_paths
from clipseg_ws.pictures.sources import Source
from clipseg_ws.pictures.written import OUTPUT_ENDINGS
from clipseg_ws.run.pseudo import MASK_FORMATS
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.decide import decide_maps
from clipseg_ws.stages.dense import needed_layers
from clipseg_ws.stages.map_steps import structure_layers
from clipseg_ws.stages.maps import class_maps
from clipseg_ws.stored import to_bytes, to_labels
from clipseg_ws.structures import IGNORE, Vocabulary
from clipseg_ws.weak.matching import Entries
from clipseg_ws.weak.written import Name, Pictures

THRESHOLDS = {"crf": 0.95, "none": 0.8}  # by the masks' refiner; CLIP-ES's 0.95 is meant for a CRF's probabilities
OTHER_THRESHOLD = 0.5  # the guided filter's and the like are less sharp


@dataclass(frozen=True)
class MaskFolder:
    """Masks on disk.

    Attributes:
        masks: the folder of ``<picture>.png`` and, where there are some, ``<picture>_confidence.png``.
        names: C classes. refine: how they were refined ("crf", ...), "" where that is not known.
        own: the product wrote them, under its own names for pictures. words: of the classes and the background, as the
            masks were made with them; None where that is not known.
    """

    masks: Path
    names: tuple[str, ...]
    refine: str = ""
    own: bool = False
    words: Vocabulary | None = None

    @cached_property
    def _entries(self) -> tuple[Entries, dict[str, Path]]:
        """The label PNGs by their path below the folder; confidences and overlays are none."""
        files = [path for path in self.masks.rglob("*") if path.suffix.lower() == ".png" and path.name[0] != "."]
        others = tuple(f"{ending}.png" for ending in OUTPUT_ENDINGS)
        found = {p.relative_to(self.masks).as_posix(): p for p in sorted(files) if not p.name.endswith(others)}
        return Entries({key: Name((key,), implied=True) for key in found}, str(self.masks)), found

    def fit(self, sources: Sequence[Source]) -> None:
        """Match all pictures with the masks at once, by the rule of ``weak/matching.py``.

        Raises ValueError (MatchError) for a mask that fits several pictures, or none that fits any.
        """
        entries, _ = self._entries
        if entries.names and sources:
            entries.fit(Pictures.of(sources))

    def place(self, source: Source) -> tuple[Path, Path] | None:
        """Where a picture's mask and confidence lie, the one that was written for it or that its name fits; None: no
        mask. Raises MatchError for a mask that fits several pictures."""
        confidence, mask = output_paths(self.masks, source.relative, MASK_FORMATS)
        if self.own:
            return (mask, confidence) if mask.exists() else None
        entries, found = self._entries
        if (key := entries.find(source)) is None:
            return None
        return found[key], found[key].with_name(f"{found[key].stem}{FORMATS['confidence'].about['file']}")

    def read(self, source: Source) -> tuple[np.ndarray, np.ndarray]:
        """Labels and confidence of a picture, uint8 [H, W] each; without a confidence file all is certain.

        Raises ValueError for 16-bit labels or sizes that differ, FileNotFoundError where there is none.
        """
        if (place := self.place(source)) is None:
            raise FileNotFoundError(f"no mask of {str(source)!r} in {str(self.masks)!r}")
        mask, confidence = place
        labels = read_label_png(mask)
        if labels.dtype != np.uint8:
            raise ValueError(f"{str(mask)!r} holds 16-bit labels; heads are trained on at most 254 classes")
        if not confidence.exists():
            return labels, np.full_like(labels, 255)
        sure = read_label_png(confidence)
        if sure.shape != labels.shape:
            raise ValueError(f"{str(mask)!r} is {labels.shape}, its confidence {sure.shape}; equal sizes are needed")
        return labels, sure

    @property
    def threshold(self) -> float:
        """The confidence from which a pixel of these masks counts, where the user names none."""
        return THRESHOLDS.get(self.refine.split("+")[-1], OTHER_THRESHOLD)

    def has(self, source: Source) -> bool:
        """Whether there is a mask of this picture."""
        return self.place(source) is not None


def open_masks(directory: str | Path) -> MaskFolder:
    """A folder that ``clipseg-ws pseudo`` wrote, or one like it: ``classes.txt`` and ``masks/`` (or the PNG beside).

    Raises:
        FileNotFoundError: no ``classes.txt``. ValueError: its first line is not "background", or no class follows.
    """
    directory = Path(directory)
    listed = directory / "classes.txt"
    if not listed.is_file():
        raise FileNotFoundError(
            f"{str(directory)!r} holds no classes.txt; a folder of `clipseg-ws pseudo` is needed, or classes.txt with "
            "'background' and a class a line beside masks/<picture>.png"
        )
    lines = [line.strip() for line in read_text(listed).splitlines() if line.strip()]
    if len(lines) < 2 or lines[0] != "background":
        raise ValueError(f"{str(listed)!r} must name 'background' first and then a class a line, got {lines[:3]}")
    settings = directory / "settings.json"
    known: Any = {}
    if settings.is_file():
        known = read_record(settings, ["settings"], "delete it, and say --threshold")["settings"]
    known = known if isinstance(known, Mapping) else {}
    masks = directory / "masks" if (directory / "masks").is_dir() else directory
    names, refine = tuple(lines[1:]), str(known.get("refine", ""))
    return MaskFolder(masks, names, refine, settings.is_file(), _words(known, names, settings))


def _words(known: Mapping[str, Any], names: tuple[str, ...], file: Path) -> Vocabulary | None:
    """The vocabulary that ``run.pseudo`` wrote down, None where it did not. Raises InputError for another thing."""
    if "synonyms" not in known:
        return None
    try:
        words = Vocabulary(
            names, tuple(map(_texts, known["synonyms"])), _texts(known["background_words"]),
            _texts(known["templates"]), str(known["fusion"]), tuple(map(_texts, known["prompts"])),
        )  # fmt: skip
        if len(words.synonyms) != len(names) or len(words.prompts) not in (0, len(names)):
            raise ValueError("not one entry a class")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "its words of the classes are not what clipseg-ws pseudo writes", file=file,
            advice="make the masks again, or delete it and say --threshold",
        ) from error  # fmt: skip
    return words


def _texts(values: Any) -> tuple[str, ...]:
    """A list of texts as a tuple. Raises TypeError for another thing."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is no list of texts")
    return tuple(values)


def shrink_targets(
    masks: Iterable[tuple[np.ndarray, np.ndarray]], grids: Sequence[tuple[int, int]], detail: int
) -> Targets:
    """Labels and confidence, uint8 [H, W] each, of all pictures at ``detail`` x their patch grid (nearest pixel)."""
    labels, confidence = [], []
    for (mask, sure), (h, w) in zip(masks, grids, strict=True):
        size = (h * detail, w * detail)
        labels.append(np.array(shrink_target(mask, size)))
        confidence.append(np.array(shrink_target(sure, size)))
    return Targets(labels, confidence)


def feedback_words(segmenter: Segmenter, folder: MaskFolder) -> Vocabulary:
    """The words that the masks were made with; of a folder that does not say, its names and the model's own words."""
    return segmenter.vocabulary(list(folder.names)) if folder.words is None else folder.words


@torch.no_grad()
def feedback_targets(
    segmenter: Segmenter, module: Head, spec: FeatureSpec, words: Vocabulary, sources: Sequence[Source],
    data: HeadData, *, blocks: int = 6,
) -> Targets:  # fmt: skip
    """Masks made again by the weak pipeline with the attention that the head's affinity selects (WeCLIP).

    Args:
        segmenter: without a head. module, spec: the trained head and its tokens. words: of ``feedback_words``.
        data: of the same pictures in the same order; a picture's mask so far says its tags and its size.
        blocks: last blocks to choose from.
    """
    backbone, config = segmenter.backbone, segmenter.config_of("weak")
    text = segmenter.embed_names(words)
    read = {*needed_layers(config, backbone.depth), *structure_layers(config, backbone.depth)}
    labels, confidence, layers = [], [], tuple(sorted(read))
    for i, source in enumerate(tqdm(sources, desc="feedback", unit="img", disable=None)):
        picture, before = segmenter.prepare(source), data.target(i)[0]
        pixels = pixel_batch(backbone, [picture.image], replace(spec, short_side=config.short_side))
        features, tokens = encode_tokens(backbone, pixels, spec, keep_layers=layers)
        embedding = module(features.float()).embedding
        tokens = replace(tokens, attention=feed_back(block_attentions(backbone, pixels, blocks), embedding))
        present = torch.zeros(1, len(words.names), dtype=torch.bool, device=backbone.device)
        present[0, [int(c) - 1 for c in np.unique(before) if c not in (0, IGNORE)]] = True
        (made,) = decide_maps([picture], class_maps(backbone, tokens, text, config, present), config)
        labels.append(np.array(shrink_target(to_labels(made.labels), before.shape)))
        confidence.append(np.array(shrink_target(to_bytes(made.confidence), before.shape)))
    return Targets(labels, confidence)
