"""The answerer by maps: a map for every present class, of names or of examples or of both, and a background rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from clipseg_ws.config import STEPS, Config
from clipseg_ws.fewshot.options import FewShotConfig
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.stages.answerer import COMMON, NAMES, step_keys
from clipseg_ws.stages.classmaps import ClassMaps
from clipseg_ws.stages.decide import Decision, decide_maps
from clipseg_ws.stages.dense import Beside
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.examples import Query, example_maps
from clipseg_ws.stages.grid_marks import GridMarks, grid_marks
from clipseg_ws.stages.labelled import ask_labeller, with_found
from clipseg_ws.stages.looks import Look, all_looks, mirrored_marks
from clipseg_ws.stages.maps import class_maps, needs_dense
from clipseg_ws.stages.question import Known, Question

_FEW = frozenset(f"fewshot.{name}" for name in FewShotConfig.__dataclass_fields__ if name != "steps")
# what the names bring to a question; examples alone do without
_OF_NAMES = frozenset({"presence_threshold", "activation", "dense_mode", "pool", "competition", "outliers"})
_OF_NAMES |= {"templates", "background", "fusion", "correlation", "layer_fusion"}


class ByMaps:
    """See ``Answerer``.

    Args:
        encoder: with the models and the configuration.
    """

    name = "maps"

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.config = encoder, encoder.config
        self.reads = maps_reads(self.config)

    def picture(self, image: Any, source: str | None = None) -> Picture:
        """See ``Answerer``."""
        return self.encoder.picture(image, source)

    def decide(self, pictures: Sequence[Picture], question: Question, known: Known) -> list[Decision]:
        """See ``Answerer``."""
        maps = self.maps(pictures, question, known)
        labelled = ask_labeller(self.encoder.labeller, pictures, question.vocabulary)
        if labelled is not None:
            maps = with_found(maps, labelled, known.present is None)
        return decide_maps(pictures, maps, self.config, known.marks, labelled)

    def maps(self, pictures: Sequence[Picture], question: Question, known: Known) -> ClassMaps:
        """Class maps of pictures that share their grids, from as many looks as the configuration asks for."""

        def look(how: Look, present: Tensor | None) -> ClassMaps:
            return self._look(pictures, question, known, how, present)

        return all_looks(look, known.present, self.config)

    def _look(
        self, pictures: Sequence[Picture], question: Question, known: Known, how: Look, present: Tensor | None
    ) -> ClassMaps:
        encoder = self.encoder
        marks = mirrored_marks(known.marks) if how[1] else known.marks
        marking = partial(_marking, marks)
        if question.examples is not None:
            query = self._query(pictures, question, how)
            return example_maps(query, question.examples, self.config, present, marking)
        assert question.text is not None
        pixels = encoder.pixels(pictures, how)
        beside = encoder.beside(pixels, encoder.regions(pictures, how))
        return class_maps(
            encoder.backbone, encoder.clip(pixels), question.text, self.config, present, marking, beside
        )

    def _query(self, pictures: Sequence[Picture], question: Question, how: Look) -> Query:
        """Tokens of CLIP where it is needed, and of the second model where there is one."""
        encoder, examples = self.encoder, question.examples
        assert examples is not None
        worded = examples.text is not None or examples.known is not None
        regions = encoder.regions(pictures, how)
        if encoder.features is None:
            pixels = encoder.pixels(pictures, how)
            tokens = encoder.clip(pixels)
            beside = encoder.beside(pixels, regions) if examples.text is not None else Beside(None, regions)
            return Query(encoder.backbone, tokens, encoder.backbone, tokens, beside)
        clip, beside = None, Beside(None, regions)
        if worded:
            pixels = encoder.pixels(pictures, how)
            clip, beside = encoder.clip(pixels), encoder.beside(pixels, regions)
        return Query(encoder.backbone, clip, encoder.features, encoder.second(pictures, how), beside)


def _marking(marks: Any, classes: Tensor, grid: tuple[int, int]) -> GridMarks | None:
    return None if marks is None else grid_marks(marks, classes, grid)


def maps_reads(config: Config) -> frozenset[str]:
    """Keys of settings that maps of names and examples read in this configuration."""
    reads = set(COMMON | NAMES | _FEW) | step_keys(config, "maps")
    reads |= {"presence", "presence_threshold", "activation", "pool", "background_rule", "min_area", "cache_mb"}
    reads |= {"max_pixels"}
    reads |= {"attention_blocks"} if config.presence else set()  # presence is smoothed along the attention
    reads |= {"decision", "labeller"}
    reads |= {"alpha"} if config.background_rule == "power" else set()
    reads |= {"background_threshold"} if config.background_rule == "constant" else set()
    if needs_dense(config):
        reads |= {"dense_mode"}
    else:
        reads -= {"correlation", "layer_fusion"}
    return frozenset(reads)


def question_reads(reads: frozenset[str], question: Question) -> frozenset[str]:
    """Those of ``maps_reads`` that a question reads: names alone nothing of examples, and the other way round."""
    if question.examples is None:
        return frozenset(key for key in reads if not _of_examples(key))
    if question.text is None:
        return frozenset(key for key in reads if key.partition(".")[0] not in _OF_NAMES and key not in _OF_NAMES)
    return reads


def without_examples(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those of the matching."""
    return {key: value for key, value in given.items() if not _of_examples(key)}


def _of_examples(key: str) -> bool:
    name = key.partition(".")[0]
    return name == "fewshot" or (name in STEPS and STEPS[name].about["when"] == "matching")
