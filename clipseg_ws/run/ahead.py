"""Whether a run has anything left to do, found out before its model is loaded. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipseg_ws.backbones import known_digest, model_card
from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.config import DEFAULT_METHOD, SETTINGS, Config, resolve
from clipseg_ws.output.formats import picture_formats
from clipseg_ws.output.save import done_sources
from clipseg_ws.pictures.sources import Source
from clipseg_ws.run.asked import models_content, words_content
from clipseg_ws.run.kept import sort_out
from clipseg_ws.run.made_with import MadeWith
from clipseg_ws.run.plan import Plan, Tags, Weak
from clipseg_ws.run.summary import Summary
from clipseg_ws.stages.names import resolve_names, warn_unknown
from clipseg_ws.structures import Vocabulary


@dataclass(frozen=True)
class Finished:
    """What a run would report that finds everything done. ``names``: of the classes."""

    summary: Summary
    names: tuple[str, ...]


class _NeedsModel(Exception):
    """Only the loaded model can tell."""


@dataclass(frozen=True)
class _Unloaded:
    """As much of a backbone as its card and the digest of its files say."""

    name: str
    weights_sha256: str
    card: ModelCard

    def embed_text(self, texts: Sequence[str], batch_size: int = 256) -> Any:
        """Raises _NeedsModel: words that are chosen by similarity need the text tower."""
        raise _NeedsModel


def finished(
    sources: Sequence[Source], directory: str | Path, *, model: str, method: str = DEFAULT_METHOD,
    given: Mapping[str, Any], classes: Any = None, background: Any = None, tags: Tags | None = None,
    weak: Weak | None = None, spoken: Iterable[Sequence[str]] | None = None, formats: Sequence[str],
) -> Finished | None:  # fmt: skip
    """What ``run_folder`` would report where every picture is done already, without loading the model.

    Args:
        model: its name. method, given: as for ``Segmenter``; only settings that every method reads.
        classes, background: as for ``Segmenter.ask``; ``spoken`` its tags. formats, tags, weak: as for ``run_folder``.

    Returns None where something is left to do, or cannot be told without the model, or is an error: the run itself
    then finds out and says it. Warns of unknown names as the question would.
    """
    digest = known_digest(model)
    if digest is None:
        return None
    unloaded = _Unloaded(model, digest, model_card(model))
    try:
        configs = _configs(method, given, unloaded.card.recommended)
        words = resolve_names(unloaded, configs[SETTINGS[0]], classes, background, spoken)  # type: ignore[arg-type]
        plan = Plan(
            directory=Path(directory).absolute(), formats=picture_formats(formats), tags=tags, weak=weak,
            content=_content(configs, digest, words), root=os.getcwd(),
        )  # fmt: skip
        MadeWith(plan.directory, unloaded).check(done_sources(plan.directory, sources, plan.formats))
        if sort_out(plan, sources).todo:
            return None
    except (ValueError, OSError, _NeedsModel):
        return None
    warn_unknown(words, unloaded.card, model, stacklevel=4)
    return Finished(Summary(total=len(sources), skipped=len(sources)), words.names)


def _configs(method: str, given: Mapping[str, Any], recommended: Mapping[str, Any]) -> dict[str, Config]:
    """Setting -> its configuration, as ``stages.setups.Setups`` resolves them. Raises ValueError."""
    if method != DEFAULT_METHOD:
        return dict.fromkeys(SETTINGS, resolve(method, given, recommended, SETTINGS[0]))
    return {setting: resolve(method, given, recommended, setting) for setting in SETTINGS}


def _content(configs: Mapping[str, Config], digest: str, words: Vocabulary) -> dict[str, Any]:
    settings = {setting: config.as_dict() for setting, config in configs.items()}
    return models_content(settings, digest, None, None) | words_content(words, "names alone", None)
