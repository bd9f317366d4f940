"""CVAT's auto-annotation: a detection function for cvat-sdk and ``cvat-cli`` that draws masks or polygons.

    cvat-cli task auto-annotate 137 --function-module clipseg_ws.adapters.cvat \\
        -p model=str:photo -p "classes=str:cat; dog"

The task's labels are matched by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipseg_ws.output.exchange import Thing, listed, needed
from clipseg_ws.output.outlines import polygons

if TYPE_CHECKING:
    from clipseg_ws.segmenter import Segmenter


def create(
    classes: Any, model: str | None = None, *, segmenter: Segmenter | None = None, method: str = "default",
    device: str = "auto", offline: bool = False, **settings: Any,
) -> DetectionFunction:  # fmt: skip
    """The function, as cvat-cli calls for it.

    Args:
        classes: as the ``Segmenter``'s call takes them. segmenter: one that is there already, instead of what follows.
        model, method, device, offline, **settings: of the ``Segmenter``; ``instances=True`` gives a shape a thing.

    Raises:
        ValueError: classes or settings that cannot be used. ImportError without cvat-sdk.

    Example:
        >>> annotate_task(client, 137, create("cat; dog", "photo"))
    """
    needed("cvat_sdk.auto_annotation", "cvat")
    if segmenter is None:
        from clipseg_ws.segmenter import Segmenter

        segmenter = Segmenter(model, method=method, device=device, offline=offline, **settings)
    return DetectionFunction(segmenter, classes)


class DetectionFunction:
    """What cvat-sdk's ``annotate_task`` takes. Attributes: ``spec``, a label of type "mask" for every class.

    Args:
        segmenter: what answers. classes: as its call takes them.
    """

    def __init__(self, segmenter: Segmenter, classes: Any) -> None:
        self._cvat = needed("cvat_sdk.auto_annotation", "cvat")
        self._encode = needed("cvat_sdk.masks", "cvat").encode_mask
        self.segmenter, self.question = segmenter, segmenter.ask(classes)
        names = self.question.vocabulary.names
        labels = [self._cvat.label_spec(name, number, type="mask") for number, name in enumerate(names)]
        self.spec = self._cvat.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: Any) -> list[Any]:
        """Shapes of one picture: a mask a thing, polygons where CVAT wants these (holes cut in by bridges).

        Things whose mean confidence is below ``context.conf_threshold`` are left out.
        """
        (result,) = self.segmenter.answer(self.question, [image.convert("RGB")])
        least = context.conf_threshold or 0.0
        shapes: list[Any] = []
        for thing in listed(result):
            if thing.confidence >= least:
                shapes += self._shapes(thing, result.names.index(thing.name), context.conv_mask_to_poly)
        return shapes

    def _shapes(self, thing: Thing, number: int, outlines: bool) -> list[Any]:
        if not outlines:
            return [self._cvat.mask(number, self._encode(thing.mask, thing.box))]
        return [self._cvat.polygon(number, corners.ravel().astype(float).tolist()) for corners in polygons(thing.mask)]
