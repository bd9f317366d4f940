"""What ``clipseg-ws eval`` does with its options: data set, protocol and methods put together, run, and summed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipseg_ws.backbones import DEFAULT_MODEL
from clipseg_ws.config import parse_settings
from clipseg_ws.config.settings import known_keys
from clipseg_ws.eval.datasets import DATASETS
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.guard import Setting, parse_setting
from clipseg_ws.eval.predictors import Predictor
from clipseg_ws.eval.predictors.checks import Noise, Oracle
from clipseg_ws.eval.predictors.names import parse_method, split_head, split_methods
from clipseg_ws.eval.predictors.segmenter import SegmenterPredictor
from clipseg_ws.eval.predictors.without_network import STARTS, WithoutNetwork
from clipseg_ws.eval.protocols import Protocol, load_protocol
from clipseg_ws.eval.run.evaluation import Options, evaluate
from clipseg_ws.eval.tables import SWEEP_COLUMNS, read_table
from clipseg_ws.registry import find
from clipseg_ws.run.shards import parse_shard

HARNESS = ("oracle", "noise")  # methods that check the harness, no Segmenter


@dataclass(frozen=True)
class Request:
    """The options of ``clipseg-ws eval``; see there."""

    dataset: str
    setting: str | None = None
    method: str = ""
    root: Path | None = None
    output: Path = Path("results")
    split: str | None = None
    protocol: str = "default"
    model: str = ""
    features: str | None = None
    prompts: str | None = None
    fold: int | None = None
    episodes: Path | None = None
    count: int | None = None
    size: int | None = None
    seed: int = 0
    limit: int | None = None
    shard: str = "1/1"
    save_every: int = 50
    batch_size: int = 1
    boundary: bool = True
    sweep: bool | None = None
    gallery: int = 6
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    overwrite: bool = False
    engine: str = "local"
    set_: list[str] | None = None


def run_request(request: Request, say: Callable[[str], None], segmenter: Callable[..., Any] | None = None) -> int:
    """Carry it out and say the results; returns the exit code, 1 where pictures failed.

    ``segmenter`` makes the first Segmenter (default: ``clipseg_ws.Segmenter``). Raises ValueError for options that do
    not fit together.
    """
    shard = parse_shard(request.shard)
    protocol, setting, methods = _resolved(request)
    few = setting.shots > 0
    drawn = few and request.episodes is None
    dataset = load_dataset(
        request.dataset, request.root, setting=setting, split=request.split, prompts=request.prompts,
        fold=request.fold, episodes=request.episodes, count=request.count, size=request.size,
        seed=request.seed if drawn else None,
    )  # fmt: skip
    own = [name for name in methods if name not in HARNESS and parse_method(name)[0] not in STARTS]
    sweep = request.sweep
    if sweep is None:
        sweep = (protocol.sweep or setting.kind == "weak") and own == methods and not few
    if len(own) > 1:
        _check_shared(request, own, say)
    predictors = _predictors(request, methods, dataset, protocol, sweep, segmenter)
    options = Options(
        limit=request.limit, shard=shard, save_every=request.save_every,
        batch_size=request.batch_size, boundary=request.boundary, sweep=sweep, overwrite=request.overwrite,
        gallery=request.gallery, seed=request.seed if drawn else None, engine=request.engine,
    )  # fmt: skip
    rows = evaluate(dataset, predictors, request.output, protocol=protocol, options=options, say=say)
    finished = [row for row in rows if row is not None]
    for row in finished:
        for line in summary(row, request.output):
            say(line)
    return 1 if any(row["n_failed"] for row in finished) else 0


def _resolved(request: Request) -> tuple[Protocol, Setting, list[str]]:
    """Protocol, setting and method names."""
    few = find(DATASETS, request.dataset, "data set").about["kind"] == "few-shot"
    methods = split_methods(request.method)
    default = "oracle" if methods == ["oracle"] else "few-1" if few else "zero"
    setting = parse_setting(request.setting or default)
    protocol = load_protocol(request.protocol, request.dataset, setting.kind)
    return protocol, setting, methods or [protocol.method or "default"]


def _predictors(
    request: Request,
    methods: list[str],
    dataset: Dataset | EpisodeSet,
    protocol: Protocol,
    sweep: bool,
    segmenter: Callable[..., Any] | None,
) -> list[Predictor]:
    """One predictor a method; Segmenters share backbone, texts and tokens."""
    out: list[Predictor] = []
    first: Any = None
    for name in methods:
        if name in HARNESS:
            out.append(Oracle() if name == "oracle" else Noise(request.seed))
            continue
        preset, own = parse_method(name)
        if preset in STARTS:
            out.append(WithoutNetwork(preset, dataset.setting, name=name, **parse_settings(request.set_) | own))
            continue
        if first is None:
            first = made = _segmenter(request, name, methods, dataset, protocol, sweep, segmenter)
        else:
            preset, head = split_head(preset)
            settings = _settings(request, preset, head is not None, len(methods) > 1, dataset, protocol, sweep)
            made = first.variant(method=preset, **settings | own)
            if head is not None or getattr(first, "head", None) is not None:
                made = made.with_head(head)
        words = None if isinstance(dataset, EpisodeSet) else dataset.vocabulary
        words = words or dataset.sample(dataset.ids[0]).classes
        out.append(SegmenterPredictor(made, dataset.setting, words, background=dataset.background, name=name))
    return out


def _segmenter(
    request: Request, method: str, methods: list[str], dataset: Dataset | EpisodeSet, protocol: Protocol, sweep: bool,
    make: Callable[..., Any] | None,
) -> Any:  # fmt: skip
    if make is None:
        from clipseg_ws import Segmenter

        make = Segmenter
    model = request.model or DATASETS[request.dataset].about["model"] or DEFAULT_MODEL
    preset, own = parse_method(method)
    preset, head = split_head(preset)
    settings = _settings(request, preset, head is not None, len(methods) > 1, dataset, protocol, sweep) | own
    if request.features is not None:
        settings["features"] = request.features
    if head is not None:
        settings["head"] = head
    return make(model, method=preset, device=request.device, dtype=request.dtype, offline=request.offline, **settings)


def _settings(
    request: Request, method: str, head: bool, shared: bool, dataset: Dataset | EpisodeSet, protocol: Protocol,
    sweep: bool,
) -> dict[str, Any]:  # fmt: skip
    """Segmenter settings: of the protocol and the harness as far as the method reads them, and those given by the
    user, who has the last word and an error where the method does not read it. ``shared``: several methods run."""
    settings = protocol.options(known_keys())
    settings |= {"batch_size": request.batch_size, "keep_maps": sweep}
    if shared:
        settings["cache_mb"] = max(64, 16 * request.batch_size)
    if not dataset.background:  # every pixel gets a class where any map is above 0
        settings |= {"background_rule": "constant", "background_threshold": 0.0}
    from clipseg_ws.stages.reading import readable

    given = parse_settings(request.set_)
    return readable(method, settings, head) | (readable(method, given, head) if shared else given)


def _check_shared(request: Request, methods: Sequence[str], say: Callable[[str], None]) -> None:
    """Where several methods run, ``--set`` goes to those that read it: say which do not.

    Raises ValueError for a setting that none of them reads.
    """
    from clipseg_ws.stages.reading import readable

    given, left = parse_settings(request.set_), dict[str, list[str]]()
    for name in methods:
        method, head = split_head(parse_method(name)[0])
        for key in given.keys() - readable(method, given, head is not None).keys():
            left.setdefault(key, []).append(name)
    for key, unread in sorted(left.items()):
        if len(unread) == len(methods):
            raise ValueError(f"--set {key}={given[key]!r}: none of the methods {', '.join(methods)} reads it")
        say(f"--set {key}: not read by {', '.join(unread)}")


def summary(row: dict[str, Any], out: Path) -> list[str]:
    """The closing lines of a run."""
    scores = [
        f"{key} {100 * row[key]:.2f}"
        for key in ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou")
        if _given(row[key])
    ]
    lines = [f"{row['run_id']}: {', '.join(scores)}; {row['n_images']} pictures, {row['seconds_per_image']:.3f} s each"]
    swept = read_table(out / "thresholds.csv", SWEEP_COLUMNS)
    swept = swept[(swept["run_id"] == row["run_id"]) & (swept["mIoU"] != "")]
    if len(swept):
        best = swept.loc[swept["mIoU"].astype(float).idxmax()]
        name = "constant" if best["kind"] == "threshold" else "power"
        lines.append(
            f"  best of {len(swept)} backgrounds: {name} {best['value']}, mIoU {100 * float(best['mIoU']):.2f}"
        )
    if row["n_failed"]:
        lines.append(f"  {row['n_failed']} pictures failed, listed in {out / 'errors.csv'}")
    return lines


def _given(value: Any) -> bool:
    return isinstance(value, float) and value == value
