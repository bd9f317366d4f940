"""Weight files -> state dicts, without running anything that is in the file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.backbones.places import PICKLED
from clipseg_ws.door import reading, regular
from clipseg_ws.door.documents import read_json

_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile


def read_weights(path: Path) -> dict[str, Tensor]:
    """One weight file, or all shards of an ``*.index.json`` -> name -> tensor on the CPU.

    ``.safetensors`` cannot hold code; ``.pt``, ``.pth`` and ``.bin`` are read with ``torch.load(weights_only=True)``
    (plain state dicts and training checkpoints with a ``state_dict`` entry).

    Raises:
        FileNotFoundError: the file or one of its shards is missing.
        ValueError: a pickle with code, a TorchScript archive, a damaged file, or something other than tensors.
    """
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED:
        return _plain_state(_read_pickle(path), path)
    raise ValueError(f"{path}: weights come as .safetensors, {', '.join(PICKLED)}, for example model.safetensors")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    with reading(path, "a safetensors file", advice="fetch it again"):
        regular(path)
        return load_file(path)


def _read_pickle(path: Path) -> Any:
    regular(path)
    if _is_torchscript(path):
        raise ValueError(
            f"{path} is a TorchScript archive (as OpenAI published CLIP), a program that is not run here; use the same "
            "weights as safetensors, for example --model ViT-B-16-quickgelu/openai"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0][:160]
        raise ValueError(
            f"{path} is refused: it holds more than tensors, so it could run code, or it is damaged ({reason}); "
            "use a .safetensors file, or let somebody who trusts it save its state dict as safetensors"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way: EOFError, IndexError, RuntimeError, ...
        raise ValueError(f"{path} is damaged or no torch file ({str(error)[:160]}); fetch it again") from error


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives are zip files with a table of constants; ``torch.save`` writes none."""
    with reading(path, "a whole torch file", advice="fetch it again"):
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def _plain_state(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, with wrappers' prefixes removed."""
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"{path} holds no state dict (name -> tensor), neither itself nor under 'state_dict'; save one with "
            "safetensors.torch.save_file(model.state_dict(), 'open_clip_model.safetensors')"
        )
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def _read_shards(index: Path) -> dict[str, Tensor]:
    """All files named in transformers' ``*.index.json``; they lie beside it."""
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{index} is no index of shards: {error!r}; fetch it again") from error
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{index} names the shard {name!r}, which does not lie beside it")
        if not (index.parent / name).is_file():
            raise FileNotFoundError(f"{index.parent} lacks {name}, one of {len(names)} files named in {index.name}")
    state: dict[str, Tensor] = {}
    for name in names:
        state |= read_weights(index.parent / name)
    return state
