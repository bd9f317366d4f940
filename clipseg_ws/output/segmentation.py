"""The answer that a user gets: a ``structures.Result`` that can be drawn and saved. Light; files are made on call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipseg_ws.structures import Result

if TYPE_CHECKING:
    from PIL import Image

    from clipseg_ws.output.items import Labels
    from clipseg_ws.output.things import Box, Polygon


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(Result):
    """The answer for one image; attributes, ``mask``, ``shares`` and ``presence`` as in ``structures.Result``.

    A notebook shows it as overlay and table, ``print`` as one line.
    """

    @property
    def instances(self) -> Labels | None:
        """[H, W] int32, 1, 2, ... for each thing, 0 for none; None unless ``instances=True`` was set."""
        from clipseg_ws.output.things import instances_of

        return instances_of(self)

    def overlay(
        self, image: Any = None, alpha: float = 0.5, outline: int = -1, palette: str = "safe", legend: str = "below"
    ) -> Image.Image:
        """The picture with coloured classes, outlines and a legend, RGB; see ``output.formats.overlay.overlay``.

        Args:
            image: replaces the kept picture (same size). alpha: opacity of the colours, 0 to 1.
            outline: width in pixels, 0 for none, -1 by the picture's size.
            palette: "safe" (told apart by colour-blind people too) or "voc" (as in label PNGs).
            legend: "below", "inside" or "none"; the last two keep the picture's size.
        """
        from clipseg_ws.output.formats.overlay import overlay

        return overlay(self, image, alpha, outline, palette, legend)

    def save(
        self,
        directory: str | Path,
        formats: str | Sequence[str] = ("png", "overlay", "json"),
        stem: str | None = None,
    ) -> list[Path]:
        """Write the asked files into ``directory`` (made if missing) through temporary names; returns their paths.

        ``formats``: those of one picture in ``output.formats.FORMATS``, such as "png,masks,cutout".
        """
        from clipseg_ws.output.save import save

        return save(self, Path(directory), formats=formats, stem=stem)

    def boxes(self) -> list[Box]:
        """(name, x0, y0, x1, y1, score) of every class that occurs, of every thing where there are ``instances``.

        Example:
            >>> WeakLabels(boxes=tuple(box[:5] for box in result.boxes()))  # what ``weak=`` takes
        """
        from clipseg_ws.output.things import boxes

        return boxes(self)

    def polygons(self) -> list[Polygon]:
        """(name, corners [n, 2] int64 as x, y) of every connected region, exact; of every thing with ``instances``."""
        from clipseg_ws.output.things import outlines

        return outlines(self)

    def rle(self) -> dict[str, dict[str, Any]]:
        """Class that occurs -> COCO's compressed run lengths {"size", "counts"}.

        Raises ImportError without the extra ``coco``.
        """
        from clipseg_ws.output.things import run_lengths_of

        return run_lengths_of(self)

    def to_coco(self, style: str = "rle") -> dict[str, Any]:
        """A COCO json of this picture: "images", "annotations" (with scores), "categories".

        Args:
            style: "rle" (needs the extra ``coco``) or "polygons".
        """
        from clipseg_ws.output.formats.coco import picture_coco

        return picture_coco(self, style=style, instances=self.instances)

    def to_supervision(self) -> Any:
        """``supervision.Detections``: one a class that occurs, one a thing where there are ``instances``.

        ``xyxy`` [n, 4] in pixels, ends exclusive; ``mask`` [n, H, W] bool; ``class_id`` i is ``names[i]``;
        ``confidence`` the mean of the thing's pixels; ``data``: "class_name", and "score" of the class in the picture
        (NaN where it has none). Back: ``clipseg_ws.adapters.supervision``. Raises ImportError without supervision.

        Example:
            >>> sv.MaskAnnotator().annotate(picture, result.to_supervision())
        """
        from clipseg_ws.output.exchange import supervision_of

        return supervision_of(self)

    def to_fiftyone(self, kind: str = "segmentation") -> Any:
        """FiftyOne's label. Back: ``clipseg_ws.adapters.fiftyone``.

        Args:
            kind: "segmentation", a ``fo.Segmentation`` of the label map, whose ``mask_targets`` are
                ``dict(enumerate(result.names, 1))``; "detections", a ``fo.Detections`` with a box, a mask and the mean
                confidence of every class that occurs, of every thing where there are ``instances``.

        Raises ValueError for another kind, ImportError without fiftyone.

        Example:
            >>> sample["clipseg_ws"] = result.to_fiftyone()
        """
        from clipseg_ws.output.exchange import fiftyone_of

        return fiftyone_of(self, kind)

    def cutout(self, name: str, *, crop: bool = False) -> Image.Image:
        """RGBA: the pixels of one class, all others transparent; ``crop``: only the box around them.

        Raises KeyError for a name that was not asked for, ValueError for nothing to crop or no picture.
        """
        from clipseg_ws.output.things import cutout

        return cutout(self, name, crop=crop)

    def __repr__(self) -> str:
        from clipseg_ws.output.notebook import one_line

        return one_line(self)

    def _repr_png_(self) -> bytes:
        from clipseg_ws.output.notebook import png

        return png(self)

    def _repr_html_(self) -> str:
        from clipseg_ws.output.notebook import html

        return html(self)
