"""The families: how the name of a model is written, and who loads it. Importing this imports no torch.

``about["form"]`` is the notation. "prefix:REST" is recognised by its prefix, "REST:suffix" (small letters) by its
suffix, which comes first; a form that is the entry's own name is the whole name of a model embedded in the package, and
the form without any of these takes every other name without a colon. Each entry's function is called as
``function(rest, offline=...)``; ``rest`` is what stands for REST, or the name.

* ``FAMILIES``: -> ``layout.Checkpoint``. ``about["fetch"]``: function(rest) -> files, brought up to date;
  ``about["names"]``: function() -> every name of the family that needs no path; ``about["card"]``: function(rest) ->
  ``card.ModelCard`` without loading anything (of embedded models by their folder); ``about["files"]``: function(rest)
  -> the files on this machine that decide what the model is, by which ``remembered.py`` knows it again;
  ``about["hybrid"]``: its models may have a convolutional stem (``hybrid.py``).
* ``SPEAKERS``: kinds of text-aligned models of transformers (``model_type`` of config.json); ``about["class"]``,
  ``about["context"]`` tokens a text, ``about["mask"]``: padding is masked. function(model, **settings of ``wrap``).
* ``MODELS``: classes of models that somebody has built already; function(model, **settings of ``wrap``) -> Backbone.
* ``FEATURES``: second models, which supply patch features only; function(rest, name=..., offline=...) -> a
  ``PictureModel`` on the CPU in float32; ``name`` is what it was asked for by.
* ``FEATURE_KINDS``: of these the kinds that take pictures in a way of their own, by the beginning of ``model_type``;
  function(model, pixels) -> arguments of the model. ``about["affinity"]``: their attention can spread maps.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from clipseg_ws.registry import Entry, Registry, registry

DEFAULT_MODEL = "ViT-B-16-quickgelu/openai"
_ROOM = "clipseg_ws.backbones"

FAMILIES = registry(
    Entry("open_clip", "a row of open_clip's table of architectures and weights", f"{_ROOM}.tags:load_tag",
          about={"form": "ARCH/PRETRAINED", "example": DEFAULT_MODEL, "fetch": f"{_ROOM}.tags:fetch_tag",
                 "names": f"{_ROOM}.tags:tag_names", "card": f"{_ROOM}.tags:tag_card",
                 "files": f"{_ROOM}.tags:tag_state"}),
    Entry("hf", "a repository of the model hub, in transformers' or open_clip's format", f"{_ROOM}.repos:load_repo",
          about={"form": "hf:REPO", "example": "hf:openai/clip-vit-base-patch16",
                 "fetch": f"{_ROOM}.repos:fetch_repo", "card": f"{_ROOM}.repos:repo_card", "hybrid": True}),
    Entry("local-dir", "a folder, in transformers' or open_clip's format", f"{_ROOM}.folder:load_local",
          about={"form": "local-dir:PATH", "example": "local-dir:models/my-clip",
                 "card": f"{_ROOM}.places:local_card", "files": f"{_ROOM}.places:local_state", "hybrid": True}),
    Entry("nano", "embedded in the package, knows drawn scenes only", f"{_ROOM}.folder:load_embedded",
          about={"form": "nano", "example": "nano", "fetch": f"{_ROOM}.places:embedded_files",
                 "files": f"{_ROOM}.places:embedded_state"}),
    Entry("photo", "embedded in the package, knows photos: a hybrid, a ViT behind a convolutional stem",
          f"{_ROOM}.folder:load_embedded",
          about={"form": "photo", "example": "photo", "fetch": f"{_ROOM}.places:embedded_files",
                 "files": f"{_ROOM}.places:embedded_state", "hybrid": True}),
)  # fmt: skip

def _speaker(name: str, summary: str, kind: str, context: int, mask: bool) -> Entry:
    about = {"class": kind, "context": context, "mask": mask}
    return Entry(name, summary, f"{_ROOM}.transformers_tower:wrap_speaker", about=about)


SPEAKERS = registry(
    Entry("clip", "CLIP, converted to open_clip's layout", f"{_ROOM}.convert:wrap_transformers",
          about={"class": "CLIPModel", "context": 77, "mask": False}),
    _speaker("siglip", "SigLIP, and SigLIP 2 of a fixed size", "SiglipModel", 64, False),
    _speaker("siglip2", "SigLIP 2 for any size (NaFlex)", "Siglip2Model", 64, False),
    _speaker("altclip", "AltCLIP, nine or more languages", "AltCLIPModel", 77, True),
    _speaker("chinese_clip", "Chinese CLIP", "ChineseCLIPModel", 52, True),
    _speaker("metaclip_2", "MetaCLIP 2, worldwide languages", "MetaClip2Model", 77, True),
)  # fmt: skip

MODELS = registry(
    Entry("open_clip.CLIP", "what open_clip.create_model gives for most names",
          f"{_ROOM}.wrap_openclip:wrap_open_clip"),
    Entry("open_clip.CustomTextCLIP", "with a text tower apart: SigLIP, EVA, PE-Core, MobileCLIP-B, ViTamin and others",
          f"{_ROOM}.wrap_openclip:wrap_open_clip"),
    Entry("open_clip.CoCa", "with a decoder of captions, which is not used", f"{_ROOM}.wrap_openclip:wrap_open_clip"),
    *(Entry(f"transformers.{entry.about['class']}", entry.summary, entry.home) for entry in SPEAKERS.values()),
)  # fmt: skip

FEATURES = registry(
    Entry("hf", "transformers' files on the model hub", f"{_ROOM}.second:load_repo",
          about={"form": "hf:REPO", "example": "hf:facebook/dinov2-base"}),
    Entry("local-dir", "what transformers' save_pretrained wrote", f"{_ROOM}.second:load_local",
          about={"form": "local-dir:PATH", "example": "local-dir:models/dinov2"}),
    Entry("stem", "the convolutional stem of a hybrid model, strides 8, 16, 32; no attention: set affinity=false",
          f"{_ROOM}.stem_features:load_stem", about={"form": "MODEL:stem", "example": "photo:stem"}),
)  # fmt: skip


FEATURE_KINDS = registry(
    Entry("sam", "SAM: one picture size, attention in windows, so none between all patches: set affinity=false",
          about={"one_size": True, "affinity": False}),
    Entry("aimv2", "AIMv2 with a table of positions: one picture size", about={"one_size": True, "affinity": True}),
    Entry("siglip2", "SigLIP 2 for any size: patches are packed", f"{_ROOM}.feature_kinds:packed",
          about={"one_size": False, "affinity": True}),
    Entry("vit_mae", "ViT-MAE: no patch is hidden", f"{_ROOM}.feature_kinds:unmasked",
          about={"one_size": False, "affinity": True}),
)  # fmt: skip


def parse_name(name: str, table: Registry = FAMILIES, kind: str = "model") -> tuple[Entry, str]:
    """A name -> (the entry of its family, the rest for its loader).

    Raises:
        ValueError: no entry of the table writes names so; its forms are listed. ``kind`` is for the text.
    """
    for entry in table.values():
        if (rest := _rest(entry, name, table)) is not None:
            return entry, rest
    example = next(iter(table.values())).about["example"]
    raise ValueError(f"{kind} name {name!r} is not understood; it is one of {forms(table)}, for example {example!r}")


def forms(table: Registry = FAMILIES, without: str = "") -> str:
    """The notations of a table, quoted, one entry left out where asked: "'hf:REPO' or 'local-dir:PATH'"."""
    quoted = [repr(entry.about["form"]) for entry in table.values() if entry.name != without]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def embedded() -> list[str]:
    """Names of the models that the package brings."""
    return [entry.name for entry in FAMILIES.values() if _is_embedded(entry)]


def further(entry: Entry, what: str) -> Any:
    """The function that ``about[what]`` names, or None."""
    home = entry.about.get(what)
    if home is None:
        return None
    module, _, function = home.partition(":")
    return getattr(import_module(module), function)


def _is_embedded(entry: Entry) -> bool:
    return bool(entry.about["form"] == entry.name)


def _suffix(entry: Entry) -> str:
    """":stem" of "MODEL:stem", "" for every other form."""
    _, colon, last = entry.about["form"].rpartition(":")
    return colon + last if last.islower() and colon else ""


def _rest(entry: Entry, name: str, table: Registry) -> str | None:
    """What is left of a name that is written in the entry's form, or None."""
    if _is_embedded(entry):
        return name if name == entry.name else None
    suffix = _suffix(entry)
    if suffix:
        return name.removesuffix(suffix) or None if name.endswith(suffix) else None
    if any(_suffix(other) and name.endswith(_suffix(other)) for other in table.values()):
        return None
    prefix, colon, _ = entry.about["form"].partition(":")
    if colon:
        return name.removeprefix(prefix + colon) or None if name.startswith(prefix + colon) else None
    taken = any(name == other.name for other in table.values() if _is_embedded(other))
    return name if name and ":" not in name and not taken else None
