"""Where the files of a model lie: the embedded ones, folders in either format; their cards. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from clipseg_ws.backbones.card import ModelCard, read_card
from clipseg_ws.backbones.declared import read_json
from clipseg_ws.door.plain import user_path

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "nano.safetensors",
)
TRANSFORMERS_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
PICKLED = (".pt", ".pth", ".bin")
EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"
_TREE = f"""one of
  open_clip's format: {OPEN_CLIP_CONFIG} + open_clip_model.safetensors (or open_clip_pytorch_model.bin, or one *.pt)
  transformers' format: {TRANSFORMERS_CONFIG} + model.safetensors (or model.safetensors.index.json and its shards)
                        + preprocessor_config.json"""


def local_folder(path: str) -> Path:
    """The folder of ``local-dir:PATH``. Raises FileNotFoundError where there is none."""
    folder = user_path(path)
    if folder.is_file():
        raise FileNotFoundError(f"local-dir:{path} is a file; name the folder that holds it: {_TREE}")
    if not path or not folder.is_dir():
        raise FileNotFoundError(f"local-dir:{path} is no folder; expected is a folder with {_TREE}")
    return folder


def embedded_files(name: str) -> list[Path]:
    """The weights of an embedded model. Raises FileNotFoundError where the package came without its data files."""
    folder = EMBEDDED / name
    weights = folder / f"{name}.safetensors"
    lacking = [file.name for file in (folder / OPEN_CLIP_CONFIG, weights) if not file.is_file()]
    if lacking:
        raise FileNotFoundError(
            f"the embedded model {name!r} cannot be loaded: {folder} lacks {', '.join(lacking)}; install clipseg_ws "
            "again, with its data files"
        )
    return [weights]


def find_weights(folder: Path) -> Path:
    """The weight file that ``load_folder`` reads. Raises FileNotFoundError with the expected files, ValueError where
    several could be meant."""
    kinds = [name for name in (OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG) if (folder / name).is_file()]
    names: tuple[str, ...] = ()
    if OPEN_CLIP_CONFIG in kinds:
        names += OPEN_CLIP_WEIGHTS
    if kinds:
        names += TRANSFORMERS_WEIGHTS
    for name in names:
        if (folder / name).is_file():
            return folder / name
    others = sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", *PICKLED))
    if OPEN_CLIP_CONFIG in kinds and len(others) == 1:
        return others[0]
    if OPEN_CLIP_CONFIG in kinds and others:
        listed = ", ".join(f.name for f in others)
        raise ValueError(f"{folder} holds several weight files ({listed}); name the right one {OPEN_CLIP_WEIGHTS[0]}")
    found = ", ".join(sorted(f.name for f in folder.iterdir())[:8]) or "nothing"
    raise FileNotFoundError(f"{folder} holds {found}; expected is {_TREE}")


def local_card(path: str) -> ModelCard:
    """The card of ``local-dir:PATH``. Raises FileNotFoundError for no folder, ValueError as ``folder_card``."""
    return folder_card(local_folder(path))


def embedded_card(name: str) -> ModelCard:
    """The card of an embedded model. Raises as ``embedded_files`` where it is not there."""
    if not (EMBEDDED / name / OPEN_CLIP_CONFIG).is_file():
        embedded_files(name)
    return folder_card(EMBEDDED / name)


def folder_card(folder: Path) -> ModelCard:
    """What the model in a folder says of itself; nothing where there is no configuration of open_clip's.

    Raises ValueError for a part "clipseg_ws" that is not as ``card.read_card`` reads it.
    """
    file = folder / OPEN_CLIP_CONFIG
    return read_card(read_json(file).get("clipseg_ws"), str(file)) if file.is_file() else ModelCard()


def embedded_state(name: str) -> list[Path]:
    """The files that decide what an embedded model is. Raises as ``embedded_files``."""
    return [*embedded_files(name), EMBEDDED / name / OPEN_CLIP_CONFIG]


def local_state(path: str) -> list[Path]:
    """The files that decide what the model of ``local-dir:PATH`` is. Raises FileNotFoundError for no folder."""
    return sorted(f for f in local_folder(path).iterdir() if f.suffix in (".json", ".safetensors", *PICKLED))
