"""The operators of ``pretend.py``: computed on the tensors inside, counted by the line of the package."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

NAME, INNER = torch.device("cuda:0"), torch.device("meta")
aten = torch.ops.aten
# copies between devices; the places of an index may lie on the host
_COPIES = {aten._to_copy.default, aten.copy_.default}
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


@dataclass
class Card:
    """What was counted since ``forget``, by "file:line" of the package (or "elsewhere").

    Attributes:
        operators: every operator, on the card or on the host, views too. launches: those that compute on the card.
        waits: reads of a value by the host; each lets the queue of the card run empty.
    """

    operators: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    def forget(self) -> None:
        """Count from zero."""
        for counter in (self.operators, self.launches, self.waits):
            counter.clear()


class OnCard(Tensor):
    """A tensor "on the card": a shell without memory, and its numbers in ``inner``."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnCard:
        shell = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=INNER,
        )  # fmt: skip
        shell.inner = inner
        return shell

    def __repr__(self) -> str:
        return f"OnCard({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: a tensor of a pretend card outside of it")


class Operators(TorchDispatchMode):
    """Operators on the tensors inside, counted."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        here = place()
        self.card.operators[here] += 1
        target = kwargs.get("device")
        if target is not None and torch.device(target).type == "meta":
            kwargs["device"] = torch.device("cpu")
        shells = [x for x in tree_iter((args, kwargs)) if isinstance(x, OnCard)]
        if not shells and (target is None or torch.device(target).type == "cpu"):
            return func(*args, **kwargs)
        _check_devices(func, args, kwargs, target)
        if func is aten._fused_sdp_choice.default:
            return 0
        if _waits(func, args, kwargs, target):
            self.card.waits[here] += 1
        if not _is_view(func):
            self.card.launches[here] += 1
        made = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if target is not None and torch.device(target).type == "cpu":
            return made
        if func is aten.copy_.default and not isinstance(args[0], OnCard):
            return args[0]
        known = {id(x.inner): x for x in shells}  # what an operator changes in place comes back as itself
        return tree_map(lambda x: known.get(id(x), OnCard(x)) if isinstance(x, Tensor) else x, made)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnCard) else value


def _check_devices(func: Any, args: Any, kwargs: Any, target: Any) -> None:
    """Raise RuntimeError where card and host meet in one operator; single numbers of the host may."""
    if any(isinstance(x, Tensor) and not isinstance(x, OnCard) and x.is_meta for x in tree_iter((args, kwargs))):
        raise RuntimeError(f"{func}: a tensor without numbers; pretend.py must make it itself")
    if func in _COPIES or target is not None:
        return
    checked: Any = (args, kwargs)
    if func in _INDEXED:
        if not isinstance(args[0], OnCard):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        checked = (args[0], args[2:])
    for value in tree_iter(checked):
        if isinstance(value, Tensor) and not isinstance(value, OnCard) and value.dim():
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({func}, {tuple(value.shape)})"
            )


def _waits(func: Any, args: Any, kwargs: Any, target: Any) -> bool:
    """Whether the host must know numbers of the card before it goes on."""
    if func is aten._to_copy.default:  # one that does not block: ``synchronize`` is the wait
        return target is not None and torch.device(target).type == "cpu" and not kwargs.get("non_blocking")
    if func is aten.copy_.default:
        return not isinstance(args[0], OnCard)
    if func in _INDEXED:  # how many cells a mask holds; a mask that takes one number is filled without knowing
        masks = any(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in args[1])
        return masks and (func is aten.index.Tensor or args[2].numel() != 1)
    return bool({torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output} & set(func.tags))


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def place() -> str:
    """The innermost line of the package that is running."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        _, inside, rest = frame.f_code.co_filename.rpartition("/clipseg_ws/")
        if inside:
            return f"{rest}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
