"""What every published idea in the package is worth on photos: the rows of ``systems.csv``.

``python -m clipseg_ws.eval.experiments.systems --small FOLDER -o FILE`` measures each system without and with its idea,
all else equal, on pictures that no training of ``photo`` learned from (``embedded.photo.data.set_aside``); few-shot by
episodes. Picture refinement is off on both sides, so that it hides nothing. Rows that stand in the file already, of the
same weights, settings and sizes, are kept. ``--only`` chooses; ``--limit`` and ``--episodes`` set the sizes, which
every row names. Seeds are lists of episodes; without training there is nothing else to repeat.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clipseg_ws.eval.experiments.photo_measure import Models, Photos, Task
from clipseg_ws.eval.experiments.photo_rows import EXAMPLES_ALONE, Row
from clipseg_ws.eval.tables import read_table, records, write_table

COLUMNS = (
    "system", "idea", "dataset", "setting", "settings_without", "settings_with", "without", "with", "gain", "seeds",
    "pictures", "model", "weights_sha256", "command",
)  # fmt: skip
Settings = Mapping[str, Any]
_BARE: dict[str, Any] = {"refine": "none"}
_MATCH: dict[str, Any] = EXAMPLES_ALONE | _BARE | {"fewshot.refit": "none"}
_CAM: dict[str, Any] = _BARE | {"looks": False, "affinity": False}
_SPREAD = _CAM | {"affinity": True}


@dataclass(frozen=True)
class System:
    """One idea. Attributes: name; idea: in words; setting, method: as for ``Row``; base: settings of both sides;
    on: settings that switch the idea on; off: what stands in their place."""

    name: str
    idea: str
    setting: str
    on: Settings
    base: Settings = field(default_factory=lambda: _MATCH)
    method: str = "default"
    off: Settings = field(default_factory=dict)

    def row(self, with_idea: bool) -> Row:
        """What is measured."""
        given = dict(self.base) | dict(self.on if with_idea else self.off)
        return Row(f"{self.name} {self.setting}", self.idea, self.setting, self.method, given)


def _both(name: str, idea: str, on: Settings, **more: Any) -> list[System]:
    """One-shot and five-shot."""
    return [System(name, idea, setting, on, **more) for setting in ("few-1", "few-5")]


_NAME = _BARE | {"fewshot.refit": "supports"}
SYSTEMS: tuple[System, ...] = (
    *_both("R2-D2", "ridge classifier on the supports in place of the means' cosine",
           {"fewshot.refit": "supports(shots=1)"}),
    *_both("name beside examples", "name and examples, calibrated on the examples left out", {},
           base=_NAME, off={"fewshot.text_weight": 0.0}),
    *_both("SROFB", "classifier refitted on the query's own sure cells", {"fewshot.refit": "classifier"}),
    *_both("APANet", "prototypes of the query's own sure cells", {"fewshot.refit": "prototypes"}),
    System("PPNet", "part prototypes", "few-5", {"parts": True}),
    System("CRCNet", "channels that support and query both activate", "few-5", {"crossref": True}),
    System("PANet alignment", "supports weighed by how well the query finds them again", "few-5", {"alignment": True}),
    System("HSNet", "votes of single supports", "few-5", {"vote": True}),
    System("PFENet", "half of the score from the nearest cell", "few-5", {"fewshot.prior": 0.5}),
    System("MSANet", "several blocks compared together", "few-5", {"fewshot.kinds": ["layer:1", "input", "out"]}),
    System("BAM", "other known words take their own pixels", "few-5", {"known": True}),
    System("CLIP-ES", "class-aware attention affinity behind softmax-GradCAM", "weak", {"affinity": True}, _CAM, "cam"),
    System("DRS", "peaks capped", "weak", {"suppression": 0.45}, _SPREAD, "cam"),
    System("SSA", "affinity along the likeness of several blocks too", "weak", {"structure": True}, _SPREAD, "cam"),
    System("ESOL", "expand, then shrink", "weak", {"expand_shrink": True}, _SPREAD, "cam"),
    System("Group-WSSS", "regions of the same tag in the batch", "weak", {"cross_image": 0.2}, _SPREAD, "cam"),
    System("I2CRC", "what stands out in the attention", "weak", {"saliency": 0.3}, _SPREAD, "cam"),
    System("boundary by MIL", "maps spread up to boundaries that sure patches and edges agree on", "weak",
           {"boundary": True}, _CAM, "cam"),
    System("MAM", "several sizes and mirrored, brought together", "weak",
           {"looks": {"scales": [0.7, 1.0, 1.4], "flip": True}}, _SPREAD, "cam"),
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Command line; 1 where a system could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path, required=True, help="small training folder: list.txt, images/, masks/")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", nargs="+", default=[], help="names of systems; default: all")
    parser.add_argument("--limit", type=int, help="first pictures only")
    parser.add_argument("--episodes", type=int, default=36, help="of a seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the CSV")
    given = parser.parse_args(arguments)
    known = list(dict.fromkeys(system.name for system in SYSTEMS))
    if unknown := sorted(set(given.only) - set(known)):
        parser.error(f"--only {unknown[0]!r} is no system; choose from {', '.join(known)}")
    chosen = [system for system in SYSTEMS if not given.only or system.name in given.only]
    photos = Photos(given.small, "set-aside", given.limit, given.episodes, tuple(range(given.seeds)))
    command = f"python -m clipseg_ws.eval.experiments.systems --small {given.small} --model {given.model}"
    command += "" if given.limit is None else f" --limit {given.limit}"
    command += f" --episodes {given.episodes} --seeds {given.seeds} -o {given.output}"
    models = Models(given.model, given.device, 1000)
    return 1 if measure_systems(models, photos, chosen, given.output, command, print) else 0


def measure_systems(
    models: Models, photos: Photos, systems: Sequence[System], path: Path, command: str, say: Callable[[str], None]
) -> list[str]:
    """Measure what is not in ``path`` yet, one line a system as soon as it is there; the names of those left out."""
    measured: dict[str, Mapping[str, Any]] = {}
    lost: list[str] = []
    with TemporaryDirectory() as runs:
        for system in systems:
            try:
                line = _line(models, photos, system, command, lambda task: _measured(task, measured, Path(runs)), path)
            except (ValueError, OSError) as error:
                say(f"{system.name} {system.setting}: left out: {error}")
                lost.append(system.name)
                continue
            say(f"{system.name} {system.setting}: {line['without']} -> {line['with']} ({line['pictures']} pictures)")
    return lost


def _measured(task: Task, measured: dict[str, Mapping[str, Any]], runs: Path) -> Mapping[str, Any]:
    """The numbers of a task; the same settings and pictures are measured once."""
    if task.run not in measured:
        measured[task.run] = task.measure(runs)
    return measured[task.run]


def _line(
    models: Models, photos: Photos, system: System, command: str, measure: Callable[[Task], Mapping[str, Any]],
    path: Path,
) -> dict[str, Any]:  # fmt: skip
    """The row of a system: the one that stands there, or a new one, which is written."""
    sides = [system.row(False), system.row(True)]
    about = {
        "system": system.name, "idea": system.idea, "dataset": "voc-animals, pictures set aside",
        "setting": f"{system.setting}, {system.method}", "settings_without": _told(sides[0]),
        "settings_with": _told(sides[1]), "model": models.name, "weights_sha256": models.digest,
        "seeds": str(len(photos.seeds) if system.setting.startswith("few") else 1),
        "command": f"{command} --only '{system.name}'",
    }  # fmt: skip
    lines = records(read_table(path, COLUMNS))
    kept = next((line for line in lines if all(line[key] == value for key, value in about.items())), None)
    if kept is not None:
        return kept
    tasks = [Task(row, photos.load(row, models.known), models.of(row)) for row in sides]
    found = [measure(task) for task in tasks]
    scores = [round(one["mIoU"], 4) for one in found]
    line: dict[str, Any] = about | {"without": scores[0], "with": scores[1], "gain": round(scores[1] - scores[0], 4),
                                    "pictures": found[1]["pictures"]}  # fmt: skip
    same = ("system", "setting", "model")
    others = [old for old in lines if any(old[key] != line[key] for key in same)]
    write_table(path, COLUMNS, [*others, line])
    return line


def _told(row: Row) -> str:
    return " ".join(f"{key}={value}" for key, value in row.given.items())


if __name__ == "__main__":
    raise SystemExit(main())
