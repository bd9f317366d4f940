"""``ARCH/PRETRAINED``: open_clip's table of architectures and weights, and which of them can be used.

Rows that were looked up once are remembered for this release of open_clip, whose import takes seconds. No torch is
imported before something is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipseg_ws.backbones import hub
from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.backbones.errors import UnsupportedBackbone, WeightsNotFound
from clipseg_ws.backbones.families import forms
from clipseg_ws.backbones.preprocessing import CLIP_MEAN, CLIP_STD
from clipseg_ws.backbones.remembered import recall, release_of, remember

if TYPE_CHECKING:
    from clipseg_ws.backbones.layout import Checkpoint

_QUICK = "-quickgelu"
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip's defaults, the safe one first


@dataclass(frozen=True)
class Tag:
    """One usable row of open_clip's table.

    Attributes:
        name: "ARCH/PRETRAINED" as open_clip writes it.
        model_cfg: open_clip's model configuration.
        repo, files: repository on the model hub and the file names that may hold the weights, best first.
        mean, std: RGB normalisation of pixels in [0, 1].
    """

    name: str
    model_cfg: Mapping[str, Any]
    repo: str
    files: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def load_tag(name: str, *, offline: bool = False) -> Checkpoint:
    """The model ``ARCH/PRETRAINED``, fetched where it is not cached. Raises as ``resolve_tag`` and ``tag_file``."""
    from clipseg_ws.backbones.custom import build_model
    from clipseg_ws.backbones.layout import Checkpoint
    from clipseg_ws.backbones.weights import read_weights
    from clipseg_ws.backbones.words import make_tokenizer

    tag = resolve_tag(name)
    path = tag_file(tag, offline=offline)
    model = build_model(tag.model_cfg, read_weights(path), f"{tag.name} ({path})", offline=offline)
    tokenizer = make_tokenizer(tag.model_cfg["text_cfg"], offline=offline)
    return Checkpoint(model, tag.mean, tag.std, tokenizer)


def fetch_tag(name: str) -> list[Path]:
    """The weight file of ``ARCH/PRETRAINED``, brought up to date, its tokenizer too. Raises as ``resolve_tag`` and
    ``tag_file``."""
    from clipseg_ws.backbones.words import make_tokenizer, text_configuration

    tag = resolve_tag(name)
    files = [tag_file(tag, refresh=True)]
    text = tag.model_cfg["text_cfg"]
    make_tokenizer(text)  # read once, so that it is cached
    if text.get("hf_model_name"):
        files.append(text_configuration(text["hf_model_name"]) / "config.json")
    return files


def tag_card(name: str) -> ModelCard:
    """An empty card: the table says nothing of what its models know. Raises as ``resolve_tag``."""
    resolve_tag(name)
    return ModelCard()


def tag_state(name: str) -> list[Path]:
    """The cached weight file, an empty list without one. Raises as ``resolve_tag``."""
    path = cached_tag(resolve_tag(name))
    return [] if path is None else [path]


def tag_names() -> list[str]:
    """Every "ARCH/PRETRAINED" that can be used, in the table's order."""
    return [tag.name for tag in supported_tags()]


def tag_file(tag: Tag, *, offline: bool = False, refresh: bool = False) -> Path:
    """The weight file of a tag, downloaded where it is not cached (``refresh`` asks the hub anyway).

    Raises:
        WeightsNotFound: not cached and offline, or the hub cannot be reached or has no such file.
    """
    cached = cached_tag(tag)
    if cached and (not refresh or hub.is_offline(offline)):
        return cached
    hub.require_network(tag.name, tag.repo, tag.files, offline)
    present = hub.list_files(tag.name, tag.repo)
    wanted = next((file for file in tag.files if file in present), None)
    if wanted is None:
        raise WeightsNotFound(f"{tag.name!r}: {tag.repo} on the hub has none of {', '.join(tag.files)}")
    return hub.fetch(tag.name, tag.repo, [wanted]) / wanted


def cached_tag(tag: Tag) -> Path | None:
    """The weight file of a tag where it is in the hub's cache."""
    return next((path for file in tag.files if (path := hub.cached_file(tag.repo, file))), None)


def resolve_tag(name: str) -> Tag:
    """The table's row for ``ARCH/PRETRAINED``, or what is remembered of it; touches no network.

    Raises:
        UnsupportedBackbone: an architecture without a ViT on a grid, or without a text tower that can be read.
        ValueError: an unknown architecture or weight name (the nearest ones are listed), or weights that were trained
            with the other GELU than the architecture has.
    """
    key = f"{name} {release_of('open_clip_torch')}"
    row = recall("tag", key)
    if isinstance(row, dict) and row.keys() == {f.name for f in fields(Tag)}:
        return Tag(**row | {part: tuple(row[part]) for part in ("files", "mean", "std")})
    tag = _look_up(name)
    remember("tag", key, asdict(tag))
    return tag


def _look_up(name: str) -> Tag:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    from clipseg_ws.backbones.architecture import check_architecture

    architecture, _, wanted = name.partition("/")
    if architecture not in open_clip.list_models():
        raise ValueError(_unknown_architecture(name, architecture))
    model_cfg = open_clip.get_model_config(architecture)
    check_architecture(model_cfg, name)
    row = get_pretrained_cfg(architecture, wanted) if wanted else {}
    if not row:
        raise ValueError(_unknown_weights(name, architecture, wanted))
    other = bool(row.get("quick_gelu", False)) != bool(model_cfg.get("quick_gelu", False))
    if other and _twin(architecture) in open_clip.list_models():  # an architecture without a twin is its weights' own
        raise ValueError(_gelu_mismatch(architecture, wanted))
    repo, _, file = row.get("hf_hub", "").rpartition("/")
    if not repo:
        raise UnsupportedBackbone(
            f"{name!r}: this open_clip ({open_clip.__version__}) knows no safe file of these weights; "
            "update it (pip install -U open_clip_torch)"
        )
    files = (str(Path(file).with_suffix(".safetensors")), file) if file else _HUB_FILES
    canonical = next(t for t in open_clip.list_pretrained_tags_by_model(architecture) if _clean(t) == _clean(wanted))
    mean, std = tuple(row.get("mean", CLIP_MEAN)), tuple(row.get("std", CLIP_STD))
    return Tag(f"{architecture}/{canonical}", model_cfg, repo, files, mean, std)


@cache
def supported_tags() -> tuple[Tag, ...]:
    """Every row of open_clip's table that ``resolve_tag`` accepts, in the table's order."""
    import open_clip

    rows = []
    for architecture, weights in open_clip.list_pretrained():
        try:
            rows.append(_look_up(f"{architecture}/{weights}"))
        except ValueError:  # of another kind, or listed under the name with the other GELU
            continue
    return tuple(rows)


def _clean(tag: str) -> str:
    """open_clip compares weight names without regard to case and to - or _."""
    return tag.lower().replace("-", "_")


def _unknown_architecture(name: str, architecture: str) -> str:
    known = list(dict.fromkeys(tag.name.partition("/")[0] for tag in supported_tags()))
    near = get_close_matches(architecture, known, n=4, cutoff=0.4) or known[:4]
    folder = f" A folder is named 'local-dir:{name}'." if Path(name).exists() else ""
    return (
        f"model {name!r}: open_clip has no architecture {architecture!r}; the nearest are {', '.join(near)}; "
        f"for example 'ViT-B-16-quickgelu/openai'. Other names are {forms(without='open_clip')}.{folder}"
    )


def _unknown_weights(name: str, architecture: str, wanted: str) -> str:
    from open_clip.pretrained import get_pretrained_cfg

    twin = _twin(architecture)
    if wanted and get_pretrained_cfg(twin, wanted):
        return _gelu_mismatch(architecture, wanted)
    usable = [tag.name for tag in supported_tags() if tag.name.partition("/")[0] in (architecture, twin)]
    usable.sort(key=lambda usable_name: not usable_name.startswith(f"{architecture}/"))
    if not usable:
        return f"model {name!r}: nobody has published weights for {architecture}; try 'ViT-B-16-quickgelu/openai'"
    near = get_close_matches(name, usable, n=3, cutoff=0.6)
    start = f"the nearest are {', '.join(near)}; " if near and wanted else ""
    problem = f"{architecture} has no weights {wanted!r}" if wanted else "the weights are missing after '/'"
    return f"model {name!r}: {problem}; {start}all of them: {', '.join(usable)}"


def _gelu_mismatch(architecture: str, wanted: str) -> str:
    quick = architecture.endswith(_QUICK)
    kinds = ("plain GELU", "quick GELU") if quick else ("quick GELU", "plain GELU")
    return (
        f"the weights {wanted!r} were trained with {kinds[0]}, the architecture {architecture!r} has {kinds[1]}: "
        f"every map would be silently wrong; use {_twin(architecture)}/{wanted}"
    )


def _twin(architecture: str) -> str:
    """The name of the same architecture with the other GELU."""
    return architecture.removesuffix(_QUICK) if architecture.endswith(_QUICK) else architecture + _QUICK
