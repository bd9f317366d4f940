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

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from pretend_operators import INNER, NAME, Card, OnCard, Operators, place
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FROM_DATA = {torch.tensor, torch.as_tensor, Tensor.new_tensor}
_MEMORY = 70 << 30


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
        stack.enter_context(Operators(card))
        stack.enter_context(_Functions(card))
        yield card


def _fakes(card: Card) -> dict[str, Any]:
    """What torch says of the card, and what it would ask a driver for."""

    def synchronize(*_: Any) -> None:
        card.waits[place()] += 1

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
            self.card.waits[place()] += 1
            return first.inner.tolist()
        if func is Tensor.pin_memory:
            return first
        if func is Tensor.cuda:
            return first.to(INNER)  # type: ignore[union-attr]
        if func is Tensor.cpu:
            return first.to("cpu")  # type: ignore[union-attr]
        if func is Tensor.to and any(isinstance(x, Tensor) for x in args[1:]):
            return first.to(args[1].device, args[1].dtype)  # type: ignore[union-attr]
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(first, OnCard):
            return func(first, _key(args[1]), *(_number(value, first.dtype) for value in args[2:]))
        if func in _FROM_DATA and (func is Tensor.new_tensor or "device" in kwargs):
            return self._from_data(func, args, kwargs)
        if func is Tensor.to or "device" in kwargs:
            args = (first, *(_inwards(x) for x in args[1:])) if args else args
            kwargs |= {"device": _inwards(kwargs["device"])} if "device" in kwargs else {}
        return func(*args, **kwargs)

    def _from_data(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What C++ would make without asking the mode for operators."""
        device = kwargs.pop("device", None)
        if func is Tensor.new_tensor:
            like, *args = args
            device, kwargs["dtype"] = device or like.device, kwargs.get("dtype", like.dtype)
            func = torch.tensor
        made = args[0] if isinstance(args[0], Tensor) else func(*args, **kwargs)
        return made.to(_inwards(device or made.device), kwargs.get("dtype") or made.dtype)


def _key(key: Any) -> Any:
    """An index whose lists and arrays are on the card; C++ would make them itself, without numbers."""
    if isinstance(key, tuple):
        return tuple(_key(part) for part in key)
    if isinstance(key, (list, range)) or (getattr(key, "ndim", 0) and not isinstance(key, Tensor)):
        return torch.as_tensor(list(key) if isinstance(key, range) else key).to(INNER)
    return key


def _number(value: Any, dtype: torch.dtype) -> Tensor:
    """What is put into a tensor, likewise."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype).to(INNER)


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
