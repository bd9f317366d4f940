"""Who answers in which setting: one configuration each, where the model recommends different ones, else one for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipseg_ws.backbones.protocol import Backbone, PictureModel
from clipseg_ws.config import DEFAULT_METHOD, SETTINGS, Config, resolve
from clipseg_ws.refine import REFINERS
from clipseg_ws.regions.cut import Cutters
from clipseg_ws.registry import parse_spec
from clipseg_ws.stages.answerer import Answerer, check_read
from clipseg_ws.stages.asking import Asking
from clipseg_ws.stages.banks import Matchers
from clipseg_ws.stages.by_head import ByHead, TrainedHead
from clipseg_ws.stages.by_maps import ByMaps, question_reads
from clipseg_ws.stages.by_words import ByWords
from clipseg_ws.stages.cache import TokenCache
from clipseg_ws.stages.dense import check_second_model
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.question import Question
from clipseg_ws.stages.texts import Texts

SOURCES = ("model", "default")  # whose settings count where the user gives none


@dataclass(frozen=True, eq=False)
class Models:
    """What all configurations of one Segmenter share.

    Attributes:
        features: the second vision model, or None. head: answers alone, or None.
        texts, tokens, matchers, cutters: kept.
    """

    backbone: Backbone
    features: PictureModel | None
    head: TrainedHead | None
    texts: Texts
    tokens: TokenCache
    matchers: Matchers
    cutters: Cutters


@dataclass(frozen=True, eq=False)
class Setup:
    """One configuration and all that follows from it.

    Attributes:
        backbone: with the positions that the configuration asks for. whole: pictures to whole patches; words cut
            windows themselves.
    """

    config: Config
    backbone: Backbone
    whole: Encoder
    answerer: Answerer
    asking: Asking


class Setups:
    """The setups of one method and the settings that were given, by setting ("zero", "weak", "few").

    Args:
        method: as the user named it. given: settings of the user, flat. settings_of: one of ``SOURCES``.

    Raises:
        ValueError: settings that are possible in no setting, or that none of them reads.
    """

    def __init__(self, models: Models, method: str, given: Mapping[str, Any], settings_of: str = "model") -> None:
        self.models, self.given, self.settings_of = models, given, settings_of
        advice = advice_of(models.backbone, models.head, settings_of)
        made: list[Setup] = []
        self._by: dict[str, Setup | ValueError] = {}
        for setting in SETTINGS if method == DEFAULT_METHOD and models.head is None else SETTINGS[:1]:
            try:
                config = resolve(method, given, advice, None if models.head is not None else setting)
                same = next((setup for setup in made if setup.config == config), None)
                if same is None:
                    same = _setup(models, config)
                    check_read(same.answerer, config, given)
                    made.append(same)
                self._by[setting] = same
            except ValueError as error:  # what is possible in another setting is said where this one is asked for
                self._by[setting] = error
        if not made:
            raise next(error for error in self._by.values() if isinstance(error, ValueError))
        self.first = made[0]
        self.several = len({id(found) for found in self._by.values()}) > 1

    def of(self, setting: str) -> Setup:
        """The setup of a setting; "weak-few" is "few", and with a head there is one for all.

        Raises ValueError where the settings that were given are not possible in it, or not read.
        """
        found = self._by["few" if setting == "weak-few" else setting] if self.several else self.first
        if isinstance(found, ValueError):
            raise ValueError(f"in the setting {setting!r}: {found}") from found
        return found

    def check_question(self, question: Question, setting: str | None) -> None:
        """Raise ValueError where a setting that was given is not read by any setup that may answer the question.

        ``setting``: None where pictures with and without tags may come.
        """
        settings = ("zero", "weak") if setting is None else (setting,)
        problems: list[ValueError] = []
        for one in settings:
            try:
                setup = self.of(one)
                if setup.answerer.name == "maps":
                    reads = question_reads(setup.answerer.reads, question)
                    check_read(setup.answerer, setup.config, self.given, reads, question.kind)
            except ValueError as error:
                problems.append(error)
        if len(problems) == len(settings):
            raise problems[0]


def check_possible(
    method: str, given: Mapping[str, Any], recommended: Mapping[str, Any], features: Any = None, head: Any = None
) -> None:
    """Raise ValueError where settings are possible in no setting, with what the model recommends and without it.

    ``features``, ``head``: what there is beside the model; a method that reads a second model needs one.
    """
    problems: list[ValueError] = []
    tries: list[tuple[Mapping[str, Any], str | None]] = [({}, None), *((recommended, one) for one in SETTINGS)]
    for advice, setting in tries:
        try:
            check_second_model(resolve(method, given, advice, setting), features, head)
        except ValueError as error:
            problems.append(error)
    if len(problems) == len(tries):
        raise problems[0]


def advice_of(backbone: Backbone, head: TrainedHead | None, settings_of: str) -> dict[str, Any]:
    """What counts where the user gives nothing; a head's picture sizes in any case. Raises ValueError for a source that
    is none of ``SOURCES``."""
    if settings_of not in SOURCES:
        raise ValueError(f"settings_of={settings_of!r}; choose one of {', '.join(SOURCES)}, for example 'default'")
    advice = dict(backbone.recommended) if settings_of == "model" else {}
    if head is None:
        return advice
    sizes = head.card.settings()
    of_methods = {name: dict(own) for name, own in advice.get("methods", {}).items()}
    for own in of_methods.values():
        for key in sizes:
            own.pop(key, None)
    return advice | sizes | {"methods": of_methods}


def _setup(models: Models, config: Config) -> Setup:
    backbone = models.backbone.with_positions(config.position_interpolation, compile=config.compile)
    parts = (backbone, models.features, config, models.tokens)
    cutter = models.cutters.of(config.regions)
    models.cutters.prepare(parse_spec(config.refine, REFINERS, "refiner"))
    labeller = models.cutters.labeller(config.labeller)
    whole = Encoder(*parts, cutter=cutter, labeller=labeller)
    answerer: Answerer = ByMaps(whole)
    if models.head is not None:
        answerer = ByHead(models.head, whole)
    elif config.decision == "words":
        answerer = ByWords(Encoder(*parts, whole=False, cutter=cutter, labeller=labeller))
    asking = Asking(backbone, config, models.texts, models.matchers, models.head)
    return Setup(config, backbone, whole, answerer, asking)
