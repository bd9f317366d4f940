"""A base model for autodistill: ``predict`` a picture, ``label`` a folder. ``autodistill_clipseg_ws`` names it too."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipseg_ws.output.exchange import needed, supervision_of
from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.matching import label_words

needed("supervision", "autodistill")
_Base: Any = needed("autodistill.detection", "autodistill").DetectionBaseModel


class ClipsegWS(_Base):  # type: ignore[misc]
    """A frozen CLIP that finds what the ontology's prompts say, as boxes with masks.

    Args:
        ontology: ``CaptionOntology({"person, people": "person", "cat": "cat"})``: words -> class; ``,`` joins synonyms.
        model, method, **settings: of the ``Segmenter``. Things are told apart (``instances``) unless that is off.
        segmenter: one that is there already, instead of these.

    Example:
        >>> base = ClipsegWS(CaptionOntology({"cat": "cat", "sofa, couch": "sofa"}), model="photo")
        >>> base.label("photos", extension=".jpg", output_folder="labelled")
    """

    def __init__(
        self, ontology: Any, model: str | None = None, *, method: str = "default", segmenter: Any = None,
        **settings: Any,
    ) -> None:  # fmt: skip
        if segmenter is None:
            from clipseg_ws.segmenter import Segmenter

            segmenter = Segmenter(model, method=method, **({"instances": True} | settings))
        self.ontology, self.segmenter = ontology, segmenter
        self.question = segmenter.ask(vocabulary(ontology))

    def predict(self, input: Any) -> Any:
        """``supervision.Detections`` of one picture; ``class_id`` counts ``ontology.classes()``.

        ``input``: path or PIL image; an array is BGR, as autodistill and OpenCV hand them.
        """
        picture = input[..., ::-1] if isinstance(input, np.ndarray) else input
        (result,) = self.segmenter.answer(self.question, [_contiguous(picture)])
        found, classes = supervision_of(result), self.ontology.classes()
        found.class_id = np.array([classes.index(name) for name in found.data["class_name"]], int)
        return found


def vocabulary(ontology: Any) -> Vocabulary:
    """The ontology's classes, each with the words of all its prompts."""
    words: dict[str, list[str]] = {}
    for prompt, name in ontology.promptMap:
        words.setdefault(name, []).extend(label_words(prompt) or (prompt,))
    return Vocabulary(tuple(words), tuple(tuple(dict.fromkeys(mine)) for mine in words.values()))


def _contiguous(picture: Any) -> Any:
    return np.ascontiguousarray(picture) if isinstance(picture, np.ndarray) else picture


__all__ = ["ClipsegWS", "vocabulary"]
