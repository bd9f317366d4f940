"""A ``clipseg_ws.Segmenter`` in a setting: what it is called with, and what a results row says of it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clipseg_ws.eval.guard import ProtocolViolation, Sample, Setting
from clipseg_ws.eval.predictors import Prediction
from clipseg_ws.fewshot.supports import NothingFound
from clipseg_ws.pictures.images import to_image
from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.lists import list_backgrounds, list_templates, load_background, load_templates


class SegmenterPredictor:
    """A ``clipseg_ws.Segmenter`` in a setting.

    Args:
        segmenter: called as documented there; with ``keep_maps`` its maps feed threshold sweeps.
        setting: what the samples will allow. vocabulary: of the data set, for the record.
        background: whether the protocol has a background. name: the method's name in the results.

    Raises:
        ValueError: the setting needs supports or marks that this Segmenter does not take.
    """

    def __init__(
        self, segmenter: Any, setting: Setting, vocabulary: Vocabulary, *, background: bool = True, name: str = ""
    ) -> None:
        self.segmenter, self.setting, self.vocabulary, self.background = segmenter, setting, vocabulary, background
        of = getattr(segmenter, "config_of", None)
        self.config = _as_dict(of(setting.answered) if of else getattr(segmenter, "config", None))
        self._question: Any = None
        self.name = name or str(self.config.get("method", type(segmenter).__name__))
        needed = _ARGUMENTS.get(setting.kind)
        if needed and not _takes(segmenter, needed):
            working = ", ".join(
                [kind for kind, argument in _ARGUMENTS.items() if _takes(segmenter, argument)] + ["zero"]
            )
            raise ValueError(
                f"setting {setting.name!r} hands over {needed}=, which this version's Segmenter does not take; "
                f"settings that work now: {working}"
            )
        if setting.kind == "oracle":
            raise ProtocolViolation("the setting 'oracle' is for --method oracle only; choose e.g. --setting zero")

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """One call for all samples; one call each where they have supports."""
        if self.setting.shots:
            return [self._few(sample) for sample in samples]
        images = [sample.image for sample in samples]
        given: dict[str, Any] = {}
        if self.setting.kind == "weak":
            given["tags"] = [list(sample.labels.tags()) for sample in samples]
        elif self.setting.reads:
            given["marks"] = [sample.labels.weak(sample.classes.names) for sample in samples]
        results = self.segmenter.answer(self._asked(), images, **given)
        return [Prediction(r.labels, r.extras.get("maps")) for r in results]

    def _asked(self) -> Any:
        """The question of all samples, resolved at the first."""
        if self._question is None:
            self._question = self.segmenter.ask(self._resolved(), None if self.background else ())
        return self._question

    def _few(self, sample: Sample) -> Prediction:
        name = sample.classes.names[0]
        try:
            result = self.segmenter(sample.image, classes=[name], supports=list(sample.supports))
        except NothingFound:  # an answer, and a wrong one: left out it would raise the score
            width, height = to_image(sample.image).size
            return Prediction(np.zeros((height, width), np.uint8))
        return Prediction(result.mask(name).astype(np.uint8))

    def describe(self) -> dict[str, Any]:
        """The resolved configuration, the weights and the words."""
        passing = ("cache_mb", "compile", "keep_maps")  # change no answer
        settings = {key: value for key, value in self.config.items() if key not in passing}
        words = self._resolved()
        keys = ("names", "synonyms", "background", "templates", "fusion", "prompts")
        vocabulary = {k: getattr(words, k) for k in keys}
        model = {k: str(self._model(k)) for k in ("name", "weights_sha256", "dtype", "device")}
        features = getattr(self.segmenter, "features", None)
        if features is not None:
            model["features"] = f"{features.name} {features.weights_sha256}"
        head = getattr(self.segmenter, "head", None)
        if head is not None:
            model["head"] = head.sha256
        return {"method": self.name, "config": settings, "model": model, "vocabulary": vocabulary}

    def columns(self) -> dict[str, Any]:
        """Everything of a results row that the Segmenter decides."""
        config, words, head = self.config, self._resolved(), getattr(self.segmenter, "head", None) is not None
        spread = any(step.startswith("affinity") for step in config.get("steps", ()))
        spread = spread and bool(not head or config.get("head_affinity"))
        model = str(self._model("name"))
        arch, _, weights = model.removeprefix("hf:").removeprefix("local-dir:").rpartition("/")
        whole = ":" in model or not arch
        return {
            "method": self.name,
            "backbone": model if whole else arch,
            "weights": model if whole else weights,
            "weights_sha256": self._model("weights_sha256"),
            "templates": named(words.templates, list_templates, load_templates),
            "background": named(words.background or (), list_backgrounds, load_background),
            "resize": config.get("short_side") or "original",
            "window": config.get("window") or "whole",
            "stride": (config.get("stride") or config["window"] // 2) if config.get("window") else "",
            "logit_scale": config.get("logit_scale") or self._model("logit_scale"),
            "threshold": _threshold(config, head),
            "refine": "+".join((["affinity"] if spread else []) + _refiners(config)) or "none",
            "crf": "yes" if "crf" in _refiners(config) else "no",
            "dtype": str(self._model("dtype")).removeprefix("torch."),
            "device": str(self._model("device")),
        }

    def _model(self, key: str) -> Any:
        return getattr(getattr(self.segmenter, "backbone", None), key, "")

    def _resolved(self) -> Vocabulary:
        resolve = getattr(self.segmenter, "vocabulary", None)
        if not callable(resolve):
            return self.vocabulary
        resolved: Vocabulary = resolve(self.vocabulary, None if self.background else ())
        return resolved


_ARGUMENTS = {
    "weak": "tags",
    "boxes": "weak",
    "points": "weak",
    "scribbles": "weak",
    "few": "supports",
    "weak-few": "supports",
}


def _takes(segmenter: Any, argument: str) -> bool:
    parameters = inspect.signature(segmenter.__call__).parameters.values()
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)


def _as_dict(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    return dict(config.as_dict()) if hasattr(config, "as_dict") else dict(config)


def _threshold(config: dict[str, Any], head: bool) -> str:
    """What decides for the background: the rule that is in force, not every number of the configuration."""
    rule = config.get("background_rule")
    if head:  # see ByHead
        return "0.0" if rule == "constant" and not config.get("background_threshold") else "head"
    if config.get("decision") == "words" or rule in ("constant", None):
        return str(config.get("background_threshold", ""))
    return f"(1-max)^{config.get('alpha')}" if rule == "power" else str(rule)


def _refiners(config: dict[str, Any]) -> list[str]:
    refine = config.get("refine") or "none"
    return [] if refine == "none" else str(refine).split("+")


def named(words: Sequence[str], listed: Callable[[], list[str]], load: Callable[[str], Sequence[str]]) -> str:
    """The list's name where it is one of the known lists, up to three words themselves, else count and hash."""
    if not words:
        return "none"
    for name in listed():
        if tuple(load(name)) == tuple(words):
            return name
    if len(words) <= 3:
        return "; ".join(words)
    return f"{len(words)} words #{hashlib.sha256(';'.join(words).encode()).hexdigest()[:8]}"
