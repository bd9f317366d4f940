"""What ``clipseg-ws demo --scenes`` does: a drawn scene by names and by tags, with its exact truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def run_scenes(directory: Path, model: str = "nano", *, seed: int, size: int, **options: Any) -> Iterator[str]:
    """Draw a scene, segment it in both settings, write pictures; yields the lines to print.

    Writes ``scene.png``, ``scene_truth.png`` (palette), and what ``Segmentation.save`` writes as ``scene_by_names`` and
    ``scene_by_tags``.

    Args:
        seed, size: of the scene, size in pixels. model, options: as for ``Segmenter``.
    """
    from PIL import Image

    from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
    from clipseg_ws.eval.metrics import ConfusionMatrix
    from clipseg_ws.files import atomic_write
    from clipseg_ws.output.formats.png import write_label_png
    from clipseg_ws.output.table import format_table
    from clipseg_ws.segmenter import Segmenter

    scene = draw_scene(seed, size)
    picture = Image.fromarray(scene.image)
    with atomic_write(directory / "scene.png") as path:
        picture.save(path, format="PNG")
    write_label_png(scene.labels, directory / "scene_truth.png", classes=len(KINDS))
    yield f"a drawn scene (seed {seed}): {', '.join(scene.tags)} on {scene.background}"
    segmenter = Segmenter(model, cache_mb=64, **options)
    for title, stem, tags in (("by names, all 12 given", "by_names", None), ("by tags", "by_tags", list(scene.tags))):
        (result,) = segmenter.answer(segmenter.ask(list(KINDS)), [picture], tags=None if tags is None else [tags])
        matrix = ConfusionMatrix(len(KINDS) + 1)
        matrix.update(result.labels, scene.labels)
        yield ""
        yield f"{title}: mIoU {matrix.compute()['mIoU']:.3f} on this scene"
        yield format_table(result)
        result.save(directory, stem=f"scene_{stem}")
    yield ""
    yield f"pictures are in {directory}/: scene.png, scene_truth.png, scene_by_names_overlay.png, ..."
    yield "next: clipseg-ws demo (photos), clipseg-ws demo --web (the page)"
