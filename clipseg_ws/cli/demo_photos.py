"""What ``clipseg-ws demo`` does: a photo by names, another by one example, a third by a box."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from clipseg_ws.embedded.photos import Photo
    from clipseg_ws.output.segmentation import Segmentation
    from clipseg_ws.segmenter import Segmenter

BY_NAMES, EXAMPLE, BY_EXAMPLE, BY_BOX = "chelsea", "astronaut", "camera", "coffee"  # photos of the package
NAMES = "voc"  # the vocabulary of the first step


def run_photos(directory: Path, model: str = "photo", **options: Any) -> Iterator[str]:
    """Segment three of the package's photos in three ways and write pictures; yields the lines to print.

    Writes what ``Segmentation.save`` writes as ``by_names``, ``by_example`` and ``by_box``, and what was given: the
    example with its outline as ``by_example_given.png``, the photo with its box as ``by_box_given.png``.

    Args:
        model, options: as for ``Segmenter``.
    """
    from clipseg_ws.embedded.photos import PHOTOS
    from clipseg_ws.segmenter import Segmenter

    segmenter = Segmenter(model, cache_mb=64, **options)
    if model == "nano":
        yield "nano knows drawn scenes only: what it says about photos means nothing (clipseg-ws demo --scenes)"
    yield from _by_names(segmenter, PHOTOS[BY_NAMES], directory)
    yield from _by_example(segmenter, PHOTOS[EXAMPLE], PHOTOS[BY_EXAMPLE], directory)
    yield from _by_box(segmenter, PHOTOS[BY_BOX], directory)
    yield ""
    yield f"pictures are in {directory}/: by_names_overlay.png, by_example_overlay.png, by_box_overlay.png, ..."
    yield 'next: clipseg-ws predict photo.jpg -c "cat; sofa", or clipseg-ws demo --web (the page)'


def _by_names(segmenter: Segmenter, photo: Photo, directory: Path) -> Iterator[str]:
    question = segmenter.ask(NAMES)
    (result,) = segmenter.answer(question, [photo.path])
    result.save(directory, stem="by_names")
    yield f"{photo.title} ({photo.path.name}) by names: {len(result.names)} given, of the vocabulary {NAMES!r}"
    yield from _found(result, photo)


def _by_example(segmenter: Segmenter, example: Photo, photo: Photo, directory: Path) -> Iterator[str]:
    from clipseg_ws.structures import Support

    thing = example.shows[0]
    question = segmenter.ask(supports=Support(example.open(), example.mask(), thing))
    (result,) = segmenter.answer(question, [photo.path])
    result.save(directory, stem="by_example")
    _write(directory / "by_example_given.png", _outlined(example))
    yield ""
    yield f"{photo.title} ({photo.path.name}) by one example, without a name: {example.title} ({example.path.name})"
    yield from _found(result, photo)


def _by_box(segmenter: Segmenter, photo: Photo, directory: Path) -> Iterator[str]:
    from PIL import ImageDraw

    from clipseg_ws.structures import WeakLabels

    thing, box = photo.shows[0], _around(photo)
    marks = WeakLabels(tags=(thing,), boxes=((thing, *box),))
    (result,) = segmenter.answer(segmenter.ask(thing), [photo.path], marks=[marks])
    result.save(directory, stem="by_box")
    shown = photo.open()
    ImageDraw.Draw(shown).rectangle(box, outline=(255, 60, 0), width=3)
    _write(directory / "by_box_given.png", shown)
    yield ""
    yield f"{photo.title} ({photo.path.name}) by a box around the {thing}: {', '.join(f'{edge:g}' for edge in box)}"
    yield from _found(result, photo)


def _found(result: Segmentation, photo: Photo) -> Iterator[str]:
    """What was found, and how well it fits the outline drawn by hand; the outlined thing's name may be a synonym's."""
    shares = {name: share for name, share in result.shares().items() if share and name in result.names}
    parts = [f"{name} {share:.1%}" for name, share in sorted(shares.items(), key=lambda item: -item[1])]
    absent = len(result.names) - len(shares)
    yield f"  found: {', '.join(parts) or 'nothing'}" + (f" (not found: {absent} other names)" if absent else "")
    truth, name = photo.mask(), photo.shows[0]
    got = result.mask(name)
    iou = float((got & truth).sum() / (got | truth).sum())
    yield f"  IoU with an outline of the {name} drawn by hand: {iou:.3f}"


def _around(photo: Photo) -> tuple[float, float, float, float]:
    """The box around a photo's outlined thing: x0, y0, x1, y1, ends exclusive."""
    mask = photo.mask()
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _outlined(photo: Photo) -> Image.Image:
    """The photo with its outline painted in."""
    import numpy as np

    from clipseg_ws.output.palette import draw_overlay

    return draw_overlay(photo.open(), photo.mask().astype(np.uint8), [(1, f"the example: {photo.shows[0]}")])


def _write(path: Path, picture: Image.Image) -> None:
    from clipseg_ws.files import atomic_write

    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
