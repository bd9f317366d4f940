"""What a training is made of, as digits: its checkpoint goes on only where all of them are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn


class HasDigest(Protocol):
    """Data that say what they hold."""

    def digest(self) -> str:
        """16 digits that change with every token and target."""
        ...


def digest_of(*values: Any) -> str:
    """16 digits that change with the content of any of the values.

    Tensors, arrays and modules by their numbers; mappings, sequences and objects by what they hold; functions and
    classes by their names, so that what a function encloses is not seen.

    Example:
        >>> digest_of("cat", 1.0) == digest_of("cat", 1.0) != digest_of("cat", 1.5)
        True
    """
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        _feed(digest, value, ())
    return digest.hexdigest()


def training_digests(module: nn.Module, data: HasDigest, validation: HasDigest | None, extra: Any) -> dict[str, str]:
    """What the result of a training depends on besides its settings, each as 16 digits.

    Args:
        module: the head before the first step. extra: further losses of a ``Trainer``.
    """
    return {
        "first weights": digest_of(module),
        "data": data.digest(),
        "validation data": "" if validation is None else validation.digest(),
        "further losses": "" if extra is None else digest_of(extra),
    }


def _feed(digest: Any, value: Any, inside: tuple[int, ...]) -> None:
    """Add one value; ``inside``: the objects that hold it, so that a circle ends."""
    if id(value) in inside:
        return
    if isinstance(value, (Tensor, np.ndarray)):
        _feed_numbers(digest, value)
    elif value is None or isinstance(value, (str, bytes, bool, int, float, np.generic)):
        digest.update(f"{type(value).__name__} {value!r}\0".encode(errors="surrogatepass"))
    else:
        parts = _parts(value)
        digest.update(f"{_name(value)} {len(parts)}\0".encode())
        for part in parts:
            _feed(digest, part, (*inside, id(value)))


def _feed_numbers(digest: Any, value: Tensor | np.ndarray) -> None:
    digest.update(f"{value.dtype} {tuple(value.shape)}\0".encode())
    if isinstance(value, Tensor):
        value = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
    digest.update(np.ascontiguousarray(value).tobytes())


def _parts(value: Any) -> list[Any]:
    """What an object holds, in an order of its own."""
    if isinstance(value, nn.Module):
        return list(value.state_dict().items())
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda item: repr(item[0]))
    if isinstance(value, Set):
        return sorted(value, key=repr)
    if isinstance(value, Sequence):
        return list(value)
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if callable(value) and hasattr(value, "__qualname__"):
        return []
    if is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return sorted(vars(value).items()) if hasattr(value, "__dict__") else [repr(value)]


def _name(value: Any) -> str:
    """Of a function or class itself, else of an object's class."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
