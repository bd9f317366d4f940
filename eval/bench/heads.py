"""How fast tokens are cached and heads are trained, against the bare backbone's forward. Random weights serve."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipseg_ws.backbones import load_backbone
from clipseg_ws.backbones.device import choose_device, choose_dtype
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.heads import HEADS
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.data import Targets
from clipseg_ws.heads.features import FeatureSpec, grid_of, pixel_batch
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.heads.store import StoredData, TokenStore
from clipseg_ws.heads.training import Trainer
from clipseg_ws.heads.workers import Alone
from clipseg_ws.registry import Spec, parse_spec
from clipseg_ws.run.training.data import check_room

RANDOM = "random-vit-b-16"
CLASSES = 20
DISTINCT = 64  # different pictures; more of them are these in turn, so that memory does not grow with their number


def bench(
    model: str = RANDOM, *, pictures: int = 16, side: int = 224, batches: Sequence[int] = (1, 4), steps: int = 5,
    kind: str = "decoder", device: str = "auto", dtype: str = "auto",
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A row a batch size: pictures a second of the bare forward, of caching (resizing, encoding and writing) and of
    training (reading, forward, backward, step), and the largest GPU memory in MiB (0 on a CPU).

    ``kind``: a head of ``HEADS``, with parameters where they differ: "decoder(hidden=128)". Raises ValueError for an
    unknown model, device or head, or a disk that is too small for the tokens.
    """
    head = parse_spec(kind, HEADS, "head")
    backbone = _backbone(model, device, dtype)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (min(pictures, DISTINCT), 8, 8, 3), dtype=np.uint8)
    images = [Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC) for c in coarse]
    for size in batches:
        yield _row(backbone, images, pictures, size, steps, head, model)


def _backbone(model: str, device: str, dtype: str) -> Backbone:
    if model != RANDOM:
        return load_backbone(model, device=device, dtype=dtype)
    import open_clip

    torch.manual_seed(0)
    place = choose_device(device)
    backbone = OpenClipBackbone(open_clip.create_model("ViT-B-16-quickgelu"), name=RANDOM)
    backbone.place(place, choose_dtype(dtype, place))
    return backbone


def _row(
    backbone: Backbone, images: list[Image.Image], count: int, batch: int, steps: int, spec: Spec, model: str
) -> dict[str, Any]:
    cuda = backbone.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    reads = FeatureSpec()
    pixels = pixel_batch(backbone, [images[i % len(images)] for i in range(min(batch, count))], reads)
    backbone.embed(pixels)  # the first call pays for setting up
    calls = -(-count // batch)
    forward = _seconds(lambda: [backbone.embed(pixels) for _ in range(calls)], cuda)
    with tempfile.TemporaryDirectory() as folder:
        store = TokenStore(folder, backbone, reads)
        names = [str(i) for i in range(count)]
        grid = grid_of(backbone, images[0].size, reads)
        check_room(Path(folder), 2 * count * store.blocks * store.width * grid[0] * grid[1])
        load = lambda name: images[int(name) % len(images)]  # noqa: E731
        caching = _seconds(lambda: store.build(names, load, batch_size=batch), cuda)
        shape = (grid[0] * 4, grid[1] * 4)
        drawn = [np.random.default_rng(i).integers(0, CLASSES + 1, shape).astype(np.uint8) for i in range(len(images))]
        labels = [drawn[i % len(drawn)] for i in range(count)]
        data = StoredData(store, names, Targets(labels, [np.full(shape, 255, np.uint8)] * count))
        head = make_head(spec.name, data.blocks, data.width, CLASSES + 1, **dict(spec.parameters))
        config = TrainConfig(steps=steps + 1, batch=batch, precision="bfloat16" if cuda else "float32")
        trainer = Trainer(head, data, config, workers=Alone(backbone.device))
        trainer.step(trainer.batch(0))
        training = _seconds(lambda: [trainer.step(trainer.batch(i + 1)) for i in range(steps)], cuda)
    return {
        "model": model, "device": torch.cuda.get_device_name() if cuda else "cpu", "threads": torch.get_num_threads(),
        "dtype": str(backbone.dtype).removeprefix("torch."), "side": images[0].width, "pictures": count,
        "head": str(spec), "head_parameters": sum(p.numel() for p in head.parameters()), "batch": batch,
        "forward_per_second": round(calls * len(pixels) / forward, 2), "caching_per_second": round(count / caching, 2),
        "training_per_second": round(batch * steps / training, 2),
        "gpu_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20) if cuda else 0,
    }  # fmt: skip


def _seconds(work: Any, cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
