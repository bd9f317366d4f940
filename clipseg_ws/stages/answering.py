"""From prepared pictures and a question to results: each picture by the setup of its setting, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipseg_ws.config import Config
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.batching import Batching
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.stages.decide import Decision
from clipseg_ws.stages.question import Known, Question
from clipseg_ws.stages.results import make_result, resolved_record, setting_of
from clipseg_ws.stages.setups import Setups


def answered(
    setups: Setups, batching: Batching, question: Question, pictures: Sequence[Picture], known: Known
) -> list[Segmentation]:
    """One result a picture, in order.

    Args:
        question: on the model's device. known: of all pictures.

    Raises:
        ValueError: settings that were given and are not possible, or not read, in the setting of a picture.
    """
    rows, models = range(len(pictures)), setups.models
    settings = [setting_of(question, known.kind(row)[0], models.head is not None) for row in rows]
    by = {setting: setups.of(setting) for setting in dict.fromkeys(settings)}
    ready = list(pictures)
    if setups.several:  # sizes may differ too
        for setting in by:
            setups.check_question(question, setting)
        ready = [by[settings[row]].answerer.picture(ready[row]) for row in rows]

    def decide(batch: Sequence[int]) -> list[Decision]:
        answerer = by[settings[batch[0]]].answerer
        return answerer.decide([ready[i] for i in batch], question, known.rows(batch, models.backbone.device))

    decided = batching.run_grouped([(ready[row].grid, known.kind(row)) for row in rows], decide)
    records = {setting: _record(setups, setup.config, question) for setting, setup in by.items()}
    return [
        make_result(ready[row], decided[row], question, how, records[how], by[how].config)
        for row, how in enumerate(settings)
    ]


def _record(setups: Setups, config: Config, question: Question) -> dict[str, Any]:
    models = setups.models
    record = resolved_record(config, models.backbone, models.features, question, models.head)
    return record | {"settings_of": setups.settings_of}
