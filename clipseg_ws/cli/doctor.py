"""The command ``doctor``: versions, devices, weights that are here, one picture through each embedded model."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator
from importlib import metadata

import typer

from clipseg_ws.cli.options import Device, Dtype

PACKAGES = ("torch", "open_clip_torch", "transformers", "numpy", "pillow", "pandas", "scipy", "safetensors")
REQUIRED = re.compile(r"([A-Za-z0-9._-]+).*;.*extra\s*==\s*['\"]([^'\"]+)['\"]")


def doctor(device: Device = "auto", dtype: Dtype = "auto") -> None:
    """Versions, devices, weights that are here, and one picture through each embedded model."""
    healthy = True
    for line, good in examine(device, dtype):
        typer.echo(line)
        healthy &= good
    if not healthy:
        raise typer.Exit(1)


def examine(device: str = "auto", dtype: str = "auto") -> Iterator[tuple[str, bool]]:
    """Lines to print, each with False where something is wrong."""
    yield (
        f"clipseg_ws {metadata.version('clipseg_ws')}, Python {platform.python_version()}, {platform.platform()}",
        True,
    )
    for package in PACKAGES:
        yield _version(package)
    for extra, packages in extras().items():
        yield _extra(extra, packages), True
    yield from _devices()
    yield from _weights()
    for model in SELF_TESTS:
        yield from _self_test(model, device, dtype)


def extras() -> dict[str, list[str]]:
    """Every extra of the installed package -> the packages that it asks for."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires("clipseg_ws") or ():
        if match := REQUIRED.fullmatch(line):
            found.setdefault(match[2], []).append(match[1])
    return found


def _extra(extra: str, packages: list[str]) -> str:
    """ "extra [crf]: pydensecrf2 1.1", or what is missing and how to get it."""
    here = [f"{package} {version}" for package in packages if (version := _installed(package))]
    missing = [package for package in packages if not _installed(package)]
    lack = f'{", ".join(missing)} not installed (pip install "clipseg_ws[{extra}]")' if missing else ""
    return f"extra [{extra}]: {'; '.join(filter(None, (', '.join(here), lack)))}"


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _version(package: str) -> tuple[str, bool]:
    found = _installed(package)
    return f"{package} {found or 'MISSING: pip install ' + package}", found is not None


def _devices() -> Iterator[tuple[str, bool]]:
    import torch

    from clipseg_ws.backbones.device import choose_device, choose_dtype

    yield f"CPU: {torch.get_num_threads()} threads", True
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB", True
    chosen = choose_device("auto")
    yield f"auto means device {chosen}, dtype {str(choose_dtype('auto', chosen)).removeprefix('torch.')}", True


def _weights() -> Iterator[tuple[str, bool]]:
    from clipseg_ws.backbones import cached_weights
    from clipseg_ws.backbones.places import embedded_files

    for name in SELF_TESTS:
        try:
            (path,) = embedded_files(name)
            yield f"embedded model: {name} ({path.stat().st_size / 2**20:.0f} MiB) {path}", True
        except OSError as error:
            yield f"embedded model: {name} MISSING: {error}", False
    found = cached_weights()
    for name, path, size in found:
        yield f"cached weights: {name} ({size / 2**20:.0f} MiB) {path}", True
    if not found:
        yield "cached weights: none; clipseg-ws download ViT-B-16-quickgelu/openai fetches the default model", True


def _self_test(model: str, device: str, dtype: str) -> Iterator[tuple[str, bool]]:
    """One picture through an embedded model: what it finds must fit the truth, see ``SELF_TESTS``."""
    what, look = SELF_TESTS[model]
    start = time.perf_counter()
    try:
        right = look(model, device, dtype)
    except Exception as error:  # a doctor reports, whatever it is
        yield f"self-test of {model} FAILED: {type(error).__name__}: {error}", False
        return
    seconds = time.perf_counter() - start
    verdict = "passed" if right >= 0.5 else "FAILED"
    yield f"self-test of {model} {verdict}: {what.format(right)}, {seconds:.1f} s with loading", right >= 0.5


def _scene(model: str, device: str, dtype: str) -> float:
    """A drawn scene by its tags: the share of its pixels that are right."""
    from PIL import Image

    from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
    from clipseg_ws.segmenter import Segmenter

    scene = draw_scene(10_000_007, 224)
    segmenter = Segmenter(model, device=device, dtype=dtype)
    (result,) = segmenter.answer(segmenter.ask(list(KINDS)), [Image.fromarray(scene.image)], tags=[list(scene.tags)])
    return float((result.labels == scene.labels).mean())


def _photo(model: str, device: str, dtype: str) -> float:
    """The photo of a cat by names: the cat's IoU with its outline."""
    from clipseg_ws.embedded.photos import PHOTOS
    from clipseg_ws.segmenter import Segmenter

    cat = PHOTOS["chelsea"]
    segmenter = Segmenter(model, device=device, dtype=dtype)
    (result,) = segmenter.answer(segmenter.ask("cat; dog; person; sofa"), [cat.path])
    got, truth = result.mask("cat"), cat.mask()
    return float((got & truth).sum() / (got | truth).sum())


# embedded model -> (what the number says, function(model, device, dtype) -> a number in [0, 1], half of it is enough)
SELF_TESTS: dict[str, tuple[str, Callable[[str, str, str], float]]] = {
    "photo": ("a cat in a photo is found by its name with an IoU of {:.2f}", _photo),
    "nano": ("{:.0%} of the pixels of a drawn scene are right", _scene),
}
