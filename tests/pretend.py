"""A pretend card for machines without one: tensors that say "cuda:0" and keep their numbers in host memory.

Inside ``pretend_card()`` everything that asks for "cuda" gets such tensors. Three things are seen without a GPU: the
answers (equal to the CPU's), tensors of two devices in one operator (an error, as on a GPU), and what decides a GPU's
speed besides arithmetic, counted by the line that caused it. Not seen: time, memory, the rounding of other kernels.

    with pretend_card() as card:
        segment = Segmenter("nano", device="cuda")
        card.forget()
        segment(pictures)
    card.launches.total(), card.waits

How: C++ never hears of "cuda". A mode for functions turns it into "meta" on the way in and back on the way out; a mode
for operators takes "meta" as the card and computes on the tensors inside.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

NAME, INNER = torch.device("cuda:0"), torch.device("meta")
aten = torch.ops.aten
# copies between devices; the places of an index may lie on the host
_COPIES = {aten._to_copy.default, aten.copy_.default}
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
_MEMORY = 70 << 30


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


@contextmanager
def pretend_card() -> Iterator[Card]:
    """A card as long as the block lasts; tensors on it are of no use afterwards."""
    card = Card()
    with ExitStack() as stack:
        for name, value in _fakes(card).items():
            stack.enter_context(mock.patch(name, value))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # shells cannot take over memory
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        stack.enter_context(_Operators(card))
        stack.enter_context(_Functions(card))
        yield card


def _fakes(card: Card) -> dict[str, Any]:
    """What torch says of the card, and what it would ask a driver for."""

    def synchronize(*_: Any) -> None:
        card.waits[_place()] += 1

    about = mock.Mock(total_memory=_MEMORY, major=9, minor=0, multi_processor_count=132)
    about.name = "pretend"
    cuda = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "get_device_name": lambda *_: "pretend", "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: about, "is_bf16_supported": lambda *_, **__: True,
        "mem_get_info": lambda *_: (_MEMORY, _MEMORY), "max_memory_allocated": lambda *_: 0,
        "memory_allocated": lambda *_: 0, "reset_peak_memory_stats": lambda *_: None, "empty_cache": lambda: None,
        "synchronize": synchronize, "is_current_stream_capturing": lambda: False,
        "get_rng_state": lambda *_: torch.get_rng_state(), "set_rng_state": lambda *_: None,
        "manual_seed_all": lambda *_: None, "_lazy_init": lambda: None,
    }  # fmt: skip
    return {f"torch.cuda.{name}": value for name, value in cuda.items()} | {
        "torch.optim.optimizer.Optimizer._accelerator_graph_capture_health_check": lambda self: None
    }


class _Functions(TorchFunctionMode):
    """Names of devices, on the way in and out of torch's functions."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if isinstance(first, OnCard) and func in _ANSWERS:
            return _ANSWERS[func](first)
        if func is Tensor.tolist and isinstance(first, OnCard):
            self.card.waits[_place()] += 1
            return first.inner.tolist()
        if func is Tensor.pin_memory:
            return first
        if func is Tensor.cuda:
            return first.to(NAME)  # type: ignore[union-attr]
        if func is Tensor.cpu:
            return first.to("cpu")  # type: ignore[union-attr]
        if func is Tensor.to and any(isinstance(x, Tensor) for x in args[1:]):
            return first.to(args[1].device, args[1].dtype)  # type: ignore[union-attr]
        if func is Tensor.to or "device" in kwargs:
            args = (first, *(_inwards(x) for x in args[1:])) if args else args
            kwargs |= {"device": _inwards(kwargs["device"])} if "device" in kwargs else {}
        return func(*args, **kwargs)


def _inwards(value: Any) -> Any:
    """The card's name -> the one that torch's C++ is told."""
    if isinstance(value, (str, torch.device)) and str(value).startswith("cuda"):
        return INNER
    return value


def _refused(tensor: Tensor) -> Any:
    raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")


def _copied(tensor: OnCard) -> Tensor:
    """For ``copy.deepcopy``: a parameter stays one."""
    new: Tensor = OnCard(tensor.inner.detach().clone())
    parameter = isinstance(tensor, torch.nn.Parameter)
    return torch.nn.Parameter(new, tensor.requires_grad) if parameter else new.requires_grad_(tensor.requires_grad)


_ANSWERS: dict[Any, Any] = {
    Tensor.device.__get__: lambda tensor: NAME,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__: lambda tensor: True,  # type: ignore[attr-defined]
    Tensor.is_meta.__get__: lambda tensor: False,  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda tensor: False,  # type: ignore[attr-defined]
    Tensor.data_ptr: lambda tensor: tensor.inner.data_ptr(),
    Tensor.numpy: _refused,
    Tensor.__array__: _refused,
}


class _Operators(TorchDispatchMode):
    """Operators on the tensors inside, counted."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        place = _place()
        self.card.operators[place] += 1
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
            self.card.waits[place] += 1
        if not _is_view(func):
            self.card.launches[place] += 1
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


def _place() -> str:
    """The innermost line of the package that is running."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        _, inside, rest = frame.f_code.co_filename.rpartition("/clipseg_ws/")
        if inside:
            return f"{rest}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
