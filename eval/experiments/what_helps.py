"""The page ``docs/what-helps.md``: what every published idea was worth where it was measured.

``python -m clipseg_ws.eval.experiments.what_helps > docs/what-helps.md`` in a checkout; reads ``systems.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clipseg_ws.eval.experiments.systems import COLUMNS, SYSTEMS
from clipseg_ws.eval.tables import read_table, records

TABLE = Path("eval/results/systems.csv")  # in a checkout
TEXT = """# What helps

Made by `python -m clipseg_ws.eval.experiments.what_helps > docs/what-helps.md`; do not edit.

Every line is one idea, without it and with it, all else equal: `{model}` on photos of VOC `train` that no training
learned from, mIoU, no picture refinement on either side. Sizes are small: a gain below a point means nothing. The rows
are [`systems.csv`](../eval/results/systems.csv), each with its settings and its command; all of them:

<!-- not run: takes long and needs VOC -->
```bash
{command}
```

{table}
{missing}
What gains nothing stays a step, `clipseg-ws list steps`, and is nobody's default.
"""


def page(lines: Sequence[Mapping[str, str]]) -> str:
    """The page of rows of ``systems.csv``, those that gain most first. Raises ValueError where there are none."""
    if not lines:
        raise ValueError(f"no rows; make {TABLE} with python -m clipseg_ws.eval.experiments.systems first")
    head = ("system", "idea", "setting", "without", "with", "gain", "pictures", "switched on by")
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    rows += [f"| {' | '.join(_cells(line))} |" for line in sorted(lines, key=lambda line: -float(line["gain"]))]
    measured = {line["system"] for line in lines}
    left = [name for name in dict.fromkeys(system.name for system in SYSTEMS) if name not in measured]
    missing = f"\nNot measured yet: {', '.join(left)}.\n" if left else ""
    return TEXT.format(model=lines[0]["model"], command=lines[0]["command"].partition(" --only")[0],
                       table="\n".join(rows), missing=missing)  # fmt: skip


def _cells(line: Mapping[str, str]) -> list[str]:
    before = set(line["settings_without"].split(" "))
    on = [word for word in line["settings_with"].split(" ") if word not in before] or ["(the default)"]
    scores = [f"{100 * float(line[key]):.1f}" for key in ("without", "with")]
    gain = f"{100 * float(line['gain']):+.1f}"
    return [line["system"], line["idea"], line["setting"], *scores, gain, line["pictures"], f"`{' '.join(on)}`"]


def main() -> None:
    """Print the page."""
    print(page(records(read_table(TABLE, COLUMNS))), end="")


if __name__ == "__main__":
    main()
