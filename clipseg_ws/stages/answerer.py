"""The one interface of all answerers, and the check that nothing that was set is left unread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from clipseg_ws.config import STEPS, Config
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.stages.decide import Decision
from clipseg_ws.stages.question import Known, Question

# read by every answerer: sizes of pictures, the picture refiner, what the result holds, how the work is cut
COMMON = frozenset(
    {"short_side", "long_side", "max_patches", "position_interpolation", "refine", "regions"}
    | {"instances", "keep_maps", "batch_size", "compile"}
)
NAMES = frozenset(["templates", "background", "fusion", "logit_scale"])


class Answerer(Protocol):
    """From pictures of one grid and a question to decisions.

    Attributes:
        name: "maps", "words" or "head". reads: the keys of settings it looks at, see ``config.settings.known_keys``.
    """

    name: str
    reads: frozenset[str]

    def picture(self, image: Any, source: str | None = None) -> Picture:
        """Loaded and resized for the network."""
        ...

    def decide(self, pictures: Sequence[Picture], question: Question, known: Known) -> list[Decision]:
        """One decision a picture, in order; the pictures share a grid."""
        ...


def step_keys(config: Config, answerer: str, without: Iterable[str] = ()) -> set[str]:
    """Keys of the steps that an answerer runs: "steps", every name, the parameters of those that are there."""
    mine = {n for n, entry in STEPS.items() if answerer in entry.about["answerers"]} - set(without)
    keys = {"steps"} | mine
    for spec in config.steps:
        if spec.name in mine:
            keys |= {f"{spec.name}.{key}" for key in STEPS[spec.name].parameters}
            keys |= set(STEPS[spec.name].about.get("reads", ()))
    return keys


def check_read(
    answerer: Answerer, config: Config, given: Iterable[str], reads: frozenset[str] | None = None, asked: str = ""
) -> None:
    """Raise ValueError where something that was given is not read; says what is.

    Args:
        given: keys that the user set. reads: in place of ``answerer.reads``, for what is ``asked`` ("names alone").
    """
    reads = answerer.reads if reads is None else reads
    unread = sorted(key for key in given if key not in reads and _matters(key, config))
    if unread:
        known = ", ".join(sorted(key for key in reads if "." not in key))
        where = f" where it is asked for {asked}" if asked else ""
        raise ValueError(
            f"{', '.join(unread)}: method {config.method!r} decides by {answerer.name} and does not read that{where}; "
            f"it reads {known}"
        )


def _matters(key: str, config: Config) -> bool:
    """Switching a step off that does not run is no setting."""
    return not (key in STEPS and config.step(key) is None)
