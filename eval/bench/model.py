"""What segmenting costs beside CLIP's own forward pass: both in one run, in turn, medians; random weights will do.

The bare backbone is timed twice: open_clip's modules with ``scaled_dot_product_attention`` and no weights asked for,
and open_clip's own ``encode_image`` (whose fast path is quicker in bfloat16). Ratios are to the quicker of the two.
Processor time is measured beside the clock: on a busy machine, with one thread, it is the number to believe.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image

from clipseg_ws import Segmenter, Vocabulary
from clipseg_ws.backbones.device import choose_device
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.pictures.sizes import target_size

SHORT_SIDE = 383  # before rounding up to patches: 384 x 512 with patches of 16, 392 x 518 with 14
PICTURE = (375, 500)  # h, w of the picture and of the labels
GOALS = {2: 1.25, 20: 2.5}  # whole call / bare backbone
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Timing:
    """One row: median and fastest time of a call, pictures a second, ratio to the bare backbone by the clock, its goal,
    median processor time and the ratio by it."""

    model: str
    dtype: str
    batch: int
    what: str
    median_ms: float
    fastest_ms: float
    pictures_per_second: float
    ratio: float
    goal: float | None
    processor_ms: float
    processor_ratio: float


def random_backbone(architecture: str, dtype: str, device: torch.device, short_side: int) -> OpenClipBackbone:
    """A backbone of an open_clip architecture with random weights and a text tower of one thin layer.

    Its native size is that of ``PICTURE`` at ``short_side``. Raises ValueError for what is no ViT of open_clip.
    """
    import open_clip

    config = open_clip.get_model_config(architecture)
    if config is None or "layers" not in config["vision_cfg"] or isinstance(config["vision_cfg"]["layers"], list):
        raise ValueError(f"{architecture!r} is no open_clip ViT; for example ViT-B-16-quickgelu or ViT-L-14")
    text = config["text_cfg"] | {"width": 64, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    size = target_size(PICTURE[1], PICTURE[0], config["vision_cfg"]["patch_size"], short_side)
    vision = config["vision_cfg"] | {"image_size": size}
    model = open_clip.model.CLIP(config["embed_dim"], vision, text, quick_gelu=config.get("quick_gelu", False))
    return OpenClipBackbone(model.to(device, DTYPES[dtype]), name=f"{architecture}/random")


@torch.no_grad()
def bare(backbone: OpenClipBackbone, pixels: torch.Tensor) -> torch.Tensor:
    """The class embedding through open_clip's modules with fused attention and nothing else: [B, 3, H, W] -> [B, E]."""
    visual = backbone.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    cls = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([cls, x], 1) + visual.positional_embedding)
    for block in backbone.blocks:
        attn, a = block.attn, block.ln_1(x)
        joint = F.linear(a, attn.in_proj_weight, attn.in_proj_bias).reshape(*a.shape[:2], 3, attn.num_heads, -1)
        q, k, v = joint.permute(2, 0, 3, 1, 4)  # [B, L, 3, heads, d] -> 3 x [B, heads, L, d]
        context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + block.ls_1(attn.out_proj(context))
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
    embedding: torch.Tensor = visual.ln_post(x[:, 0]) @ visual.proj
    return embedding


def random_pixels(backbone: Backbone, batch: int = 1) -> torch.Tensor:
    """[B, 3, H, W] of the backbone's native size."""
    size = [side * backbone.patch_size for side in backbone.native_grid]
    return torch.randn(batch, 3, *size).to(backbone.device, backbone.dtype)


def words(count: int) -> Vocabulary:
    """``count`` class names and the background words of a usual class list."""
    names = tuple(f"thing {i}" for i in range(count))
    background = tuple(f"ground {i}" for i in range(24))
    return Vocabulary(names, tuple((name,) for name in names), background)


def picture(seed: int = 0, size: tuple[int, int] = PICTURE) -> Image.Image:
    """A picture of smooth colours."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)


def jobs_of(segmenter: Segmenter, batch: int, classes: Sequence[int]) -> dict[str, Callable[[], Any]]:
    """What is timed for one model: both bare passes, and the whole call with K known classes."""
    backbone = segmenter.backbone
    assert isinstance(backbone, OpenClipBackbone), "the bare passes go through open_clip's own modules"
    pixels = random_pixels(backbone, batch)
    pictures = [picture(i) for i in range(batch)]
    jobs: dict[str, Callable[[], Any]] = {
        "bare, fused attention": partial(bare, backbone, pixels),
        "bare, open_clip encode_image": partial(_encode_image, backbone, pixels),
    }
    for count in classes:
        vocabulary = words(count)
        call = partial(segmenter, pictures, classes=vocabulary, tags=[list(vocabulary.names)] * batch)
        jobs[f"whole call, K={count}"] = call
    return jobs


def _encode_image(backbone: OpenClipBackbone, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        embedding: torch.Tensor = backbone.model.encode_image(pixels)
        return embedding


def in_turn(
    jobs: Mapping[Any, Callable[[], Any]], rounds: int, device: torch.device
) -> dict[Any, list[tuple[float, float]]]:
    """(seconds, processor seconds) of every job, one of each in a round, after one call that is not counted."""
    seconds: dict[Any, list[tuple[float, float]]] = {key: [] for key in jobs}
    for number in range(-1, rounds):
        for key, job in jobs.items():
            _wait(device)
            start, worked = time.perf_counter(), time.process_time()
            job()
            _wait(device)
            if number >= 0:
                seconds[key].append((time.perf_counter() - start, time.process_time() - worked))
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bench_model(
    architecture: str = "ViT-B-16-quickgelu",
    *,
    device: str = "auto",
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    batches: Sequence[int] = (1,),
    classes: Sequence[int] = (2, 20),
    rounds: int = 7,
    short_side: int = SHORT_SIDE,
    compile: bool = False,
) -> list[Timing]:
    """Time the bare backbone and the whole call (resize, tokens, attention, CAM of K classes, affinity, arg-max).

    Args:
        architecture: of open_clip, with random weights. dtypes, batches, classes: one group of rows each.
        rounds: every median is over this many. short_side: of the network input, before rounding up to patches.

    Raises:
        ValueError: an unknown architecture, dtype or device.
    """
    chosen = choose_device(device)
    jobs: dict[tuple[str, int, str], Callable[[], Any]] = {}
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is unknown; choose of {', '.join(DTYPES)}, for example bfloat16")
        backbone = random_backbone(architecture, dtype, chosen, short_side)
        for batch in batches:
            settings: dict[str, Any] = {"refine": "none", "batch_size": batch, "compile": compile}
            settings |= {"short_side": short_side}
            for what, job in jobs_of(Segmenter(backbone=backbone, **settings), batch, classes).items():
                jobs[dtype, batch, what] = job
    measured = in_turn(jobs, rounds, chosen)
    return [_row(architecture, key, measured) for key in measured]


def _row(architecture: str, key: tuple[str, int, str], measured: Mapping[Any, list[tuple[float, float]]]) -> Timing:
    """The row of one job among all."""
    dtype, batch, what = key
    clock, work = ({k: statistics.median(v[i] for v in values) for k, values in measured.items()} for i in (0, 1))
    bars = [other for other in measured if other[:2] == key[:2] and other[2].startswith("bare")]
    count = int(what.rpartition("=")[2]) if "=" in what else 0
    return Timing(
        architecture, dtype, batch, what, round(1000 * clock[key], 1), round(1000 * min(measured[key])[0], 1),
        round(batch / clock[key], 2), round(clock[key] / min(clock[bar] for bar in bars), 3), GOALS.get(count),
        round(1000 * work[key], 1), round(work[key] / min(work[bar] for bar in bars), 3),
    )  # fmt: skip


def speed_up(rows: Sequence[Timing]) -> list[str]:
    """Lines that say how much faster bfloat16 is than float32."""
    slow = {(r.batch, r.what): r for r in rows if r.dtype == "float32"}
    lines = []
    for row in rows:
        if row.dtype == "bfloat16" and (other := slow.get((row.batch, row.what))):
            clock, work = other.median_ms / row.median_ms, other.processor_ms / max(row.processor_ms, 0.1)
            lines.append(
                f"bfloat16 against float32, {row.what}, batch {row.batch}: {clock:.2f} times as fast, "
                f"by processor time {work:.2f}"
            )
    return lines


def table(rows: Sequence[Any]) -> pd.DataFrame:
    """Dataclass rows as text, None as an empty cell."""
    return pd.DataFrame([vars(row) for row in rows], dtype=object).map(lambda v: "" if v is None else str(v))


def markdown(rows: Sequence[Any]) -> str:
    """A table of dataclass rows."""
    cells = table(rows)
    lines = [list(cells), *cells.to_numpy().tolist()]
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([written[0], "|" + "---|" * len(lines[0]), *written[1:]])


def comma_separated(rows: Sequence[Any]) -> str:
    """The same as CSV, without a last line break."""
    cells = table(rows).map(lambda text: text.replace(",", ";"))
    return cells.to_csv(index=False, lineterminator="\n").removesuffix("\n")
