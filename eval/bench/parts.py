"""Where a picture's time goes, part by part, how much memory a process needs, and whether bfloat16 answers the same."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from clipseg_ws import Segmentation, Segmenter
from clipseg_ws.activations.gradcam import gradcam_and_probabilities
from clipseg_ws.activations.last_block import forward_last_block
from clipseg_ws.backbones.device import choose_device
from clipseg_ws.embedded.nano.scenes import draw_scene
from clipseg_ws.eval.bench.model import (
    PICTURE,
    SHORT_SIDE,
    bare,
    bench_model,
    comma_separated,
    in_turn,
    markdown,
    picture,
    random_backbone,
    random_pixels,
    speed_up,
    words,
)
from clipseg_ws.eval.run.local_engine import peak_memory_mb
from clipseg_ws.files import write_text
from clipseg_ws.output.save import save
from clipseg_ws.pictures.images import to_pixels
from clipseg_ws.pictures.reading import decode_image
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.refine.affinity import class_aware_affinity
from clipseg_ws.refine.guided import guided_filter
from clipseg_ws.stages.labels import label, with_background

# method, picture [H, W], K, asked: by maps, by maps shrunk to 48 x 48 patches, by windows, many names
MEMORY_CASES = (
    *(
        (method, size, count, "tags")
        for method, size in (("default", (512, 512)), ("default", (1536, 2048)), ("sclip", (1536, 2048)))
        for count in (2, 150)
    ),
    *((method, (375, 500), count, "names") for method in ("default", "maskclip") for count in (20, 1000)),
)
VALIDATION_SEED = 5_000_000  # scenes that neither trained the embedded model nor are held out


def run_bench(options: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """What ``clipseg-ws bench`` does with its options; every table as Markdown, then all as CSV."""
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    dtypes, batches, classes = (_listed(options[key]) for key in ("dtype", "batch", "classes"))
    device, model, rounds = options["device"], options["model"], options["rounds"]
    say(f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}, {rounds} rounds")
    counts = [int(c) for c in classes]
    timings = bench_model(
        model, device=device, dtypes=dtypes, batches=[int(b) for b in batches], classes=counts, rounds=rounds,
        compile=options["compile"],
    )  # fmt: skip
    tables: dict[str, list[Any]] = {"timing": timings}
    if options["parts"]:
        tables["parts"] = [
            row for d in dtypes for row in bench_parts(model, d, classes=counts, rounds=rounds, device=device)
        ]
    if options["memory"]:
        tables["memory"] = [row for d in dtypes for row in bench_memory(model, d, device=device)]
    for rows in tables.values():
        say(f"\n{markdown(rows)}")
    for line in speed_up(timings):
        say(line)
    if options["agreement"]:
        for name, share in agreement(pictures=options["photos"]).items():
            say(f"labels equal in bfloat16 and float32, {name}: {share:.2%}")
    for name, rows in tables.items():
        say(f"\n{comma_separated(rows)}")
        if options["output"] is not None:
            write_text(Path(options["output"]) / f"bench_{name}.csv", comma_separated(rows) + "\n")


def device_name(device: str) -> str:
    """The GPU's name, or the processor's where Linux tells it."""
    chosen = choose_device(device)
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else chosen.type


def _listed(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ValueError(f"{text!r} names nothing; write values with commas between, for example 1,8")
    return found


@dataclass(frozen=True)
class Part:
    """Median processor time of one part and its share of the bare backbone's."""

    dtype: str
    part: str
    processor_ms: float
    share_of_bare: float


def bench_parts(
    architecture: str, dtype: str, *, classes: Sequence[int] = (2, 20), rounds: int = 7, device: str = "auto"
) -> list[Part]:
    """The parts of a call on one picture, each by itself, on the same inputs; the bare backbone is the first row."""
    chosen = choose_device(device)
    backbone = random_backbone(architecture, dtype, chosen, SHORT_SIDE)
    one = picture()
    file = BytesIO()
    one.save(file, format="JPEG", quality=90)
    sizes: dict[str, Any] = {"patch_size": backbone.patch_size, "mean": backbone.mean, "std": backbone.std}
    pixels = random_pixels(backbone)
    tokens = backbone.encode(pixels)
    block = forward_last_block(backbone, tokens.last_input, tokens.last)
    jobs: dict[str, Callable[[], Any]] = {
        "bare backbone": partial(bare, backbone, pixels),
        "decode JPEG": partial(decode_image, file.getvalue(), "bench"),
        "resize, normalise": partial(to_pixels, one, short_side=SHORT_SIDE, **sizes),
        "tokens, no attention kept (11 blocks)": partial(backbone.encode, pixels, attention_blocks=0),
        "tokens and mean attention of 8 blocks": partial(backbone.encode, pixels),
        "rest of the last block": partial(forward_last_block, backbone, tokens.last_input, tokens.last),
    }
    for count in classes:
        text = torch.nn.functional.normalize(torch.randn(count + 24, backbone.embed_dim, device=chosen), dim=-1)
        targets = torch.arange(count, device=chosen)[None]
        cam = partial(gradcam_and_probabilities, backbone, tokens, text, targets, block=block)
        maps = cam()[0]
        assert tokens.attention is not None
        jobs |= {
            f"CAM, K={count}": cam,
            f"affinity, K={count}": partial(class_aware_affinity, maps, tokens.attention),
            f"enlarge, background, arg-max, K={count}": partial(_decide, maps),
            f"guided filter (default method), K={count}": partial(_guided, maps, one),
        }
    result = Segmenter(backbone=backbone, refine="none")(one, classes=words(2), tags=list(words(2).names))
    assert isinstance(result, Segmentation)
    with tempfile.TemporaryDirectory() as folder:
        jobs |= {f"write {name}": partial(save, result, folder, [name]) for name in ("png", "confidence", "overlay")}
        seconds = {key: statistics.median(w for _, w in s) for key, s in in_turn(jobs, rounds, chosen).items()}
    whole = seconds["bare backbone"]
    return [Part(dtype, key, round(1000 * value, 2), round(value / whole, 4)) for key, value in seconds.items()]


def _decide(maps: torch.Tensor) -> Any:
    return label(with_background(resize_maps(maps, PICTURE)))


def _guided(maps: torch.Tensor, image: Any) -> Any:
    guide = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(maps.device)
    return guided_filter(with_background(resize_maps(maps, PICTURE)), guide)


@dataclass(frozen=True)
class Memory:
    """Peak memory in MB of a process that segments one picture: model and libraries alone, and all.

    ``asked``: "tags", all classes are known to be there, or "names", they may be there.
    """

    architecture: str
    dtype: str
    method: str
    picture: str
    classes: int
    asked: str
    loaded_mb: int
    peak_mb: int


def bench_memory(architecture: str, dtype: str, *, device: str = "auto") -> list[Memory]:
    """The rows of ``MEMORY_CASES``, each from a process of its own. On CUDA it is the GPU's memory."""
    rows = []
    context = multiprocessing.get_context("spawn")
    for method, size, count, asked in MEMORY_CASES:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            loaded, peak = pool.submit(_peak, architecture, dtype, device, method, size, count, asked).result()
        shape = f"{size[1]} x {size[0]}"
        rows.append(Memory(architecture, dtype, method, shape, count, asked, round(loaded), round(peak)))
    return rows


def _peak(
    architecture: str, dtype: str, device: str, method: str, size: tuple[int, int], count: int, asked: str
) -> tuple[float, float]:
    """(with the model loaded, after a picture) in MB, in this fresh process."""
    backbone = random_backbone(architecture, dtype, choose_device(device), SHORT_SIDE)
    segmenter = Segmenter(backbone=backbone, method=method)
    vocabulary = words(count)
    segmenter.embed_names(segmenter.vocabulary(vocabulary))
    loaded = peak_memory_mb()
    segmenter(picture(size=size), classes=vocabulary, tags=list(vocabulary.names) if asked == "tags" else None)
    return loaded, peak_memory_mb()


def agreement(model: str = "nano", *, scenes: int = 40, pictures: Path | None = None) -> dict[str, float]:
    """Share of pixels with the same label in bfloat16 as in float32, without picture refinement.

    Args:
        model: with real weights; the embedded one is always there. scenes: drawn ones. pictures: a folder of photos.
    """
    both = [Segmenter(model, dtype=dtype, refine="none") for dtype in ("float32", "bfloat16")]
    sets: dict[str, list[Any]] = {"scenes": [draw_scene(VALIDATION_SEED + i).image for i in range(scenes)]}
    if pictures is not None:
        from clipseg_ws.pictures.sources import list_sources

        sets["photos"] = [str(source) for source in list_sources(pictures)]
    shares = {}
    for name, images in sets.items():
        equal = pixels = 0
        for image in images:
            one, other = (cast(Segmentation, segmenter(image)).labels for segmenter in both)
            equal, pixels = equal + int((one == other).sum()), pixels + one.size
        shares[name] = equal / pixels
    return shares
