"""Bars per class and threshold curves, with matplotlib (extra ``plots``); no global state of it is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clipseg_ws.files import atomic_write


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: Any, path: Path) -> Path:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})
    return path


def class_bars(path: Path, classes: Sequence[str], runs: Mapping[str, Sequence[float]]) -> Path:
    """Horizontal bars: IoU in percent of every class, one bar a run (nan: no bar)."""
    bar = 0.8 / max(1, len(runs))
    figure, axes = _figure(8, 1 + max(1.5, len(classes) * max(0.22, 0.12 * len(runs))))
    for i, (name, values) in enumerate(runs.items()):
        axes.barh([c + i * bar for c in range(len(classes))], [100 * v for v in values], bar, label=name)
    axes.set_yticks([c + 0.4 - bar / 2 for c in range(len(classes))], classes, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU in percent")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return _save(figure, path)


def threshold_curves(path: Path, runs: Mapping[str, Sequence[tuple[float, float]]]) -> Path:
    """mIoU in percent over the constant background threshold, one line a run; its best point is marked."""
    figure, axes = _figure(7, 3.6)
    for name, points in runs.items():
        xs, ys = [x for x, _ in points], [100 * y for _, y in points]
        (line,) = axes.plot(xs, ys, marker=".", label=name)
        best = max(range(len(ys)), key=ys.__getitem__)
        axes.plot([xs[best]], [ys[best]], marker="o", color=line.get_color())
    axes.set_xlabel("constant background threshold")
    axes.set_ylabel("mIoU in percent")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _save(figure, path)
