"""Answers on their way from the device to the host: one wait for all of them."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def on_host(**tensors: Tensor | None) -> dict[str, NDArray[Any] | None]:
    """Named tensors of one device as arrays, None as it is.

    On CUDA all copies are queued and the host waits once, for the last; elsewhere they are plain copies.

    Example:
        >>> on_host(labels=labels, iou=None)["labels"].shape
        (8, 375, 500)
    """
    devices = {tensor.device for tensor in tensors.values() if tensor is not None and tensor.device.type == "cuda"}
    moved = {
        name: None if tensor is None else tensor.detach().to("cpu", non_blocking=bool(devices))
        for name, tensor in tensors.items()
    }
    for device in devices:
        torch.cuda.synchronize(device)  # before anyone looks at what was copied
    return {name: None if tensor is None else tensor.numpy() for name, tensor in moved.items()}
