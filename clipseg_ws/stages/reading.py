"""Which settings an answerer reads, before there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipseg_ws.config import STEPS, Config, flatten, resolve
from clipseg_ws.stages.by_head import head_reads
from clipseg_ws.stages.by_maps import maps_reads
from clipseg_ws.stages.by_words import words_reads


def reads_of(config: Config, head: bool = False) -> frozenset[str]:
    """Keys of settings that count in this configuration."""
    if head:
        return head_reads(config)
    return words_reads(config) if config.decision == "words" else maps_reads(config)


def readable(
    method: str, settings: Mapping[str, Any], head: bool = False, recommended: Mapping[str, Any] | None = None,
    setting: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Those of ``settings`` that the method reads, for what one list of settings is given to several methods.

    ``recommended``, ``setting``: as for ``config.resolve``. Raises ValueError as it does.
    """
    flat = flatten(settings)
    plain = {key: value for key, value in flat.items() if "." not in key}
    runs = {spec.name for spec in resolve(method, plain, recommended, setting).steps}
    flat = {key: value for key, value in flat.items() if "." not in key or _of_step(key) in (None, *runs)}
    reads = reads_of(resolve(method, flat, recommended, setting), head)
    return {key: value for key, value in flat.items() if key in reads}


def _of_step(key: str) -> str | None:
    """The step whose parameter a key is."""
    name = key.partition(".")[0]
    return name if name in STEPS else None
