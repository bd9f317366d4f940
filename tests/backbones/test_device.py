"""The choice of device and dtype, against machines that are pretended."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.backbones.device import choose_device, choose_dtype, has_fast_bfloat16

CPU = torch.device("cpu")


def pretend(monkeypatch, *, cuda: int = 0, capability: tuple[int, int] = (8, 0), mps: bool = False, cpu=()):
    """A machine with ``cuda`` GPUs of one capability, with or without MPS, and the named features of its processor."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(cpu, True), raising=False)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": 1}, "cuda"), ({"cuda": 2, "mps": True}, "cuda")],
)
def test_auto_device_prefers_cuda_then_mps(monkeypatch, machine, expected):
    pretend(monkeypatch, **machine)
    assert choose_device().type == expected


def test_named_devices_are_taken_as_they_are(monkeypatch):
    pretend(monkeypatch, cuda=2)
    assert choose_device("cpu") == CPU
    assert choose_device(torch.device("cuda", 1)) == torch.device("cuda:1")


@pytest.mark.parametrize("device", ["cuda", "cuda:2", "mps", "meta", "gpu", "cuda:x"])
def test_devices_that_are_not_here_are_refused_with_a_way_out(monkeypatch, device):
    pretend(monkeypatch, cuda=0 if device == "cuda" else 2)
    with pytest.raises(ValueError, match=r"'auto'.*'cpu'"):
        choose_device(device)


@pytest.mark.parametrize(
    ("machine", "device", "expected"),
    [
        ({"cuda": 1, "capability": (8, 0)}, "cuda", torch.bfloat16),
        ({"cuda": 1, "capability": (9, 0)}, "cuda:0", torch.bfloat16),
        ({"cuda": 1, "capability": (7, 5)}, "cuda", torch.float32),
        ({"cpu": ("avx512_f", "avx512_bf16")}, "cpu", torch.bfloat16),
        ({"cpu": ("amx_bf16",)}, "cpu", torch.bfloat16),
        ({"cpu": ("avx2", "avx512_f")}, "cpu", torch.float32),
        ({"mps": True, "cpu": ("amx_bf16",)}, "mps", torch.float32),
    ],
)
def test_auto_dtype_is_bfloat16_only_where_the_hardware_is_fast_at_it(monkeypatch, machine, device, expected):
    pretend(monkeypatch, **machine)
    assert choose_dtype("auto", torch.device(device)) == expected


def test_a_torch_without_the_table_of_features_stays_at_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_fast_bfloat16(CPU)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_dtypes_by_name_and_by_value(name):
    assert choose_dtype(name, CPU) == getattr(torch, name) == choose_dtype(getattr(torch, name), CPU)


def test_float16_needs_a_gpu():
    assert choose_dtype("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(ValueError, match=r"float16.*CPU.*bfloat16.*cuda"):
        choose_dtype("float16", CPU)


@pytest.mark.parametrize("dtype", ["fp16", "int8", torch.int64, "double"])
def test_other_dtypes_are_refused_with_the_choices(dtype):
    with pytest.raises(ValueError, match=r"'auto', 'float32', 'bfloat16', 'float16'"):
        choose_dtype(dtype, CPU)
