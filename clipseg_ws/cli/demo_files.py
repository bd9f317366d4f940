"""The demonstration on a drawn scene: by names and by tags, with the embedded model and no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image


def run_demo(directory: Path, *, seed: int, size: int) -> Iterator[str]:
    """Draw a scene, segment it in both settings, write pictures; yields the lines to print.

    Writes ``scene.png``, ``truth.png`` (palette), and for each setting what ``Segmentation.save`` writes.
    """
    from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
    from clipseg_ws.eval.metrics import ConfusionMatrix
    from clipseg_ws.files import atomic_write
    from clipseg_ws.output.formats.png import write_label_png
    from clipseg_ws.output.table import format_table
    from clipseg_ws.segmenter import Segmenter

    directory.mkdir(parents=True, exist_ok=True)
    scene = draw_scene(seed, size)
    picture = Image.fromarray(scene.image)
    with atomic_write(directory / "scene.png") as path:
        picture.save(path, format="PNG")
    write_label_png(scene.labels, directory / "truth.png", classes=len(KINDS))
    yield f"a drawn scene (seed {seed}): {', '.join(scene.tags)} on {scene.background}"
    segmenter = Segmenter("nano", cache_mb=50)
    for title, stem, tags in (("by names, all 12 given", "by_names", None), ("by tags", "by_tags", list(scene.tags))):
        result = segmenter(picture, classes=list(KINDS), tags=tags)
        assert not isinstance(result, list)
        matrix = ConfusionMatrix(len(KINDS) + 1)
        matrix.update(result.labels, scene.labels)
        yield ""
        yield f"{title}: mIoU {matrix.compute()['mIoU']:.3f} on this scene"
        yield format_table(result)
        result.save(directory, stem=stem)
    yield ""
    yield f"pictures are in {directory}/: scene.png, truth.png, by_names_overlay.png, by_tags_overlay.png, ..."
    yield 'next: clipseg-ws predict photo.jpg -c "cat; sofa" (fetches a CLIP trained on photos)'
