"""Device and dtype of a backbone: the only place of the package that resolves ``"auto"``."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device to run on.

    Args:
        device: "auto" (CUDA where there is one, else Apple's MPS, else the CPU), or any name torch knows
            ("cpu", "cuda", "cuda:1", "mps"), or a torch.device.

    Raises:
        ValueError: torch does not know the name, or this machine does not have the device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is no device; choose 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', for example 'cuda:0'"
        ) from error
    _check_present(chosen)
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of weights and activations on ``device``.

    Args:
        dtype: "float32", "bfloat16", "float16" (or the torch.dtype), or "auto": bfloat16 where the hardware is fast at
            it (CUDA capability >= 8.0, a CPU with AMX-BF16 or AVX512-BF16), float32 everywhere else.
        device: where the backbone will live.

    Raises:
        ValueError: an unknown dtype, or float16 on a CPU (slow there, and its attention overflows).
    """
    if dtype == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise ValueError(f"dtype={dtype!r} is unknown; choose 'auto', {', '.join(map(repr, DTYPES))}")
    if chosen == torch.float16 and device.type == "cpu":
        raise ValueError(
            "dtype='float16' on a CPU is slow and overflows; choose 'float32', 'bfloat16' or 'auto', "
            "or a GPU, for example device='cuda'"
        )
    return chosen


def has_fast_bfloat16(device: torch.device) -> bool:
    """True where bfloat16 matrix products run on units of their own rather than through float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    # torch's public table of the processor's features; older releases have only some probes, and then it stays float32
    table: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(table.get("amx_bf16") or table.get("avx512_bf16"))


def _check_present(device: torch.device) -> None:
    """Raise ValueError where this machine lacks the device."""
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ValueError(
                f"device={str(device)!r} is not here: torch sees {count} CUDA device(s) "
                f"(torch {torch.__version__}); choose 'auto' or 'cpu'"
            )
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device='mps' is not here (it needs macOS on Apple silicon); choose 'auto' or 'cpu'")
    elif device.type not in ("cpu", "mps"):
        raise ValueError(f"device={str(device)!r} is not supported; choose 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'")
