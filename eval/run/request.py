"""What ``clipseg-ws eval`` does with its options: data set, protocol and methods put together, run, and summed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipseg_ws.backbones import DEFAULT_MODEL, choice, model_card
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
from clipseg_ws.eval.run.summary import summary
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
    model: str | None = None
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
    settings_of: str = "model"
    set_: list[str] | None = None


def run_request(request: Request, say: Callable[[str], None], segmenter: Callable[..., Any] | None = None) -> int:
    """Carry it out and say the results; returns the exit code, 1 where pictures failed.

    ``segmenter`` makes the first Segmenter (default: ``clipseg_ws.Segmenter``). Raises ValueError for options that do
    not fit together.
    """
    shard = parse_shard(request.shard)
    protocol, setting, methods = _resolved(request)
    own = [name for name in methods if _asks_a_model(name)]
    if own:
        request = replace(request, model=_model(request, own))
    few = setting.shots > 0
    drawn = few and request.episodes is None
    dataset = load_dataset(
        request.dataset, request.root, setting=setting, split=request.split, prompts=request.prompts,
        fold=request.fold, episodes=request.episodes, count=request.count, size=request.size,
        seed=request.seed if drawn else None,
    )  # fmt: skip
    sweep = request.sweep
    if sweep is None:
        sweep = (protocol.sweep or setting.kind == "weak") and own == methods and not few
    if len(own) > 1:
        _check_shared(request, setting, own, say)
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
    methods = methods or [protocol.method or "default"]
    if request.settings_of != "model":  # as a setting of the method, so that name and identity of the run say it
        source = f"+settings_of={request.settings_of}"
        methods = [name + source if _asks_a_model(name) else name for name in methods]
    return protocol, setting, methods


def _asks_a_model(method: str) -> bool:
    """Whether a method is a Segmenter's, and not the harness's or without a network."""
    return method not in HARNESS and parse_method(method)[0] not in STARTS


def _model(request: Request, methods: Sequence[str]) -> str:
    """The name of the model: given, the data set's own, or the one that a head of the methods belongs to.

    Raises ValueError where nobody names one: numbers should not hang on what is on a machine.
    """
    named: str | None = request.model or DATASETS[request.dataset].about["model"]
    heads = [head for method in methods if (head := split_head(parse_method(method)[0])[1]) is not None]
    if not named and heads:
        from clipseg_ws.heads.file import load_head

        named = load_head(heads[0])[1].backbone
    if not named:
        raise ValueError(
            f"eval {request.dataset} needs a model: --model {DEFAULT_MODEL}, or --model {choice.WITHOUT_DOWNLOAD}, "
            "which came with the package"
        )
    return named


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
            settings = _settings(request, preset, head is not None, methods, own, dataset, protocol, sweep)
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
    preset, own = parse_method(method)
    preset, head = split_head(preset)
    settings = _settings(request, preset, head is not None, methods, own, dataset, protocol, sweep) | own
    if request.features is not None:
        settings["features"] = request.features
    if head is not None:
        settings["head"] = head
    place: dict[str, Any] = {"device": request.device, "dtype": request.dtype, "offline": request.offline}
    return make(request.model, method=preset, **place, **settings)


def _settings(
    request: Request, method: str, head: bool, methods: Sequence[str], own: dict[str, Any],
    dataset: Dataset | EpisodeSet, protocol: Protocol, sweep: bool,
) -> dict[str, Any]:  # fmt: skip
    """Segmenter settings: of the protocol and the harness as far as the method reads them, and those given by the
    user, who has the last word and an error where the method does not read it. ``methods``: all that run; ``own``:
    settings in this one's name."""
    shared = len(methods) > 1
    settings = protocol.options(known_keys())
    settings |= {"batch_size": request.batch_size, "keep_maps": sweep}
    if shared:
        settings["cache_mb"] = max(64, 16 * request.batch_size)
    if not dataset.background:  # every pixel gets a class where any map is above 0
        settings |= {"background_rule": "constant", "background_threshold": 0.0}
    given, reads = parse_settings(request.set_), _reader(request, method, head, own, dataset.setting)
    source = {"settings_of": "model"} if any("settings_of=" in name for name in methods) else {}
    return source | reads(settings) | (reads(given) if shared else given)


def _reader(
    request: Request, method: str, head: bool, own: dict[str, Any], setting: Setting
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Takes those of settings that a method reads with this model in this setting."""
    from clipseg_ws.stages.reading import readable

    advice = model_card(str(request.model)).recommended if own.get("settings_of", "model") == "model" else {}
    return lambda settings: readable(method, settings, head, advice, None if head else setting.answered)


def _check_shared(
    request: Request, setting: Setting, methods: Sequence[str], say: Callable[[str], None]
) -> None:
    """Where several methods run, ``--set`` goes to those that read it: say which do not.

    Raises ValueError for a setting that none of them reads.
    """
    given, left = parse_settings(request.set_), dict[str, list[str]]()
    for name in methods:
        preset, own = parse_method(name)
        method, head = split_head(preset)
        for key in given.keys() - _reader(request, method, head is not None, own, setting)(given).keys():
            left.setdefault(key, []).append(name)
    for key, unread in sorted(left.items()):
        if len(unread) == len(methods):
            raise ValueError(f"--set {key}={given[key]!r}: none of the methods {', '.join(methods)} reads it")
        say(f"--set {key}: not read by {', '.join(unread)}")
