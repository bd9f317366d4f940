"""The call itself, on top of ``ask`` and ``answer``: one picture, a list of them, or a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from PIL import Image
from torch import Tensor

from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.sources import Source
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.given import per_image_tags, weak_list
from clipseg_ws.weak.marks import mark_names

if TYPE_CHECKING:
    from clipseg_ws.backbones.protocol import Backbone
    from clipseg_ws.config import Config
    from clipseg_ws.stages.question import Question

One = str | Path | Source | Image.Image | np.ndarray | Tensor | bytes | Picture
Names = str | Sequence[str] | None


class Calling:
    """What a Segmenter's call does; ``ask`` and ``answer`` are the Segmenter's own."""

    backbone: Backbone
    config: Config
    recipe: dict[str, Any]
    _given: dict[str, Any]

    def ask(
        self, classes: Any = None, background: Any = None, *, supports: Any = None,
        tags: Iterable[Sequence[str]] | None = None,
    ) -> Question:  # fmt: skip
        """See ``Segmenter.ask``."""
        raise NotImplementedError

    def answer(
        self, question: Question, pictures: Sequence[Any], *, tags: Sequence[Sequence[str]] | None = None,
        marks: Sequence[WeakLabels] | None = None,
    ) -> list[Segmentation]:  # fmt: skip
        """See ``Segmenter.answer``."""
        raise NotImplementedError

    @overload
    def __call__(
        self, images: One, classes: Any = None, *, background: Names = None, tags: Any = None, supports: Any = None,
        weak: Any = None,
    ) -> Segmentation: ...  # fmt: skip

    @overload
    def __call__(
        self, images: list[Any] | tuple[Any, ...], classes: Any = None, *, background: Names = None, tags: Any = None,
        supports: Any = None, weak: Any = None,
    ) -> list[Segmentation]: ...  # fmt: skip

    @overload
    def __call__(
        self, images: Any, classes: Any = None, *, background: Names = None, tags: Any = None, supports: Any = None,
        weak: Any = None,
    ) -> Any: ...  # fmt: skip

    def __call__(
        self, images: Any, classes: Any = None, *, background: Names = None, tags: Sequence[Any] | None = None,
        supports: Any = None, weak: WeakLabels | Sequence[WeakLabels] | None = None,
    ) -> Any:  # fmt: skip
        """Segment one picture, a list of pictures, or a stream of them.

        Args:
            images: path, URL, PIL image, uint8 array [H, W, 3], tensor [3, H, W], bytes or open file of an image; a
                list or tuple of these; or a generator or other iterator, which ``stream`` answers.
            classes: "cat; person, people" (``;`` between classes, ``,`` between synonyms), a list, a ``Vocabulary``, a
                class file, or a name from ``prompts/``. May be left out with ``tags`` or a model that knows its own.
            background: words that compete as background; the class file's own, else the configuration's, by default.
            tags: the weak setting: the classes that are in the picture (a list of lists for several pictures).
            supports: the few setting: ``Support(image, mask, label)`` or a list of these, a folder
                ``label/picture.jpg`` + ``label/picture.png``, a bank (``Segmenter.bank``) or the file of one. Without
                ``classes`` the supports' labels are looked for, by the examples alone; with ``classes`` names and
                examples count together. A support without a mask gets one by the weak setting first.
            weak: the weak setting with boxes, points and scribbles (one ``WeakLabels`` per picture); the answer never
                contradicts them. Which classes are there is decided as without them where they name no class (a mark
                of the background alone, say). Not together with ``tags``, which are a field of it.

        Returns one ``Segmentation`` for one picture, a list for a list, an iterator for an iterator. Raises ValueError
        as ``ask`` and ``answer``.

        Example:
            >>> result = segment("photo.jpg", "cat; sofa")
            >>> result.mask("cat").mean(), result.boxes()
        """
        if is_stream(images):
            return self.stream(images, classes, background=background, tags=tags, supports=supports, weak=weak)
        single = not isinstance(images, (list, tuple))
        listed = [images] if single else list(images)
        named = per_image_tags(tags, len(listed), single)
        marks = None if weak is None else weak_list(weak, len(listed), tags)
        question = self.ask(classes, background, supports=supports, tags=_spoken(named, marks))
        results = self.answer(question, listed, tags=named, marks=marks)
        return results[0] if single else results

    def stream(
        self, images: Iterable[Any], classes: Any = None, *, background: Names = None,
        tags: Sequence[Any] | None = None, supports: Any = None, weak: Sequence[WeakLabels] | None = None,
    ) -> Iterator[Segmentation]:  # fmt: skip
        """One result a picture, in order, read and answered one batch (``batch_size``) at a time.

        Args:
            images: any iterable of what the call takes; it is read no further than the batch that is answered.
            tags: names for every picture, or one list of names a picture. weak: one ``WeakLabels`` a picture.
            classes, background, supports: as for the call.

        Raises:
            ValueError: as the call; what is asked is checked now, pictures when they are reached; fewer tags or weak
                labels than pictures, when that picture is reached.

        Example:
            >>> for result in segment.stream(read_frames("film"), "cat; dog"):
            ...     print(result.shares())
        """
        everywhere = list(tags) if tags is not None and all(isinstance(t, str) for t in tags) else None
        named = None if tags is None or everywhere is not None else per_image_tags(tags, len(tags), False)
        marks = None if weak is None else weak_list(weak, 1 if isinstance(weak, WeakLabels) else len(weak), tags)
        spoken = [everywhere] if everywhere is not None else _spoken(named, marks)
        question = self.ask(classes, background, supports=supports, tags=spoken)
        known = _Known(everywhere, named, marks)
        return self._answers(question, iter(images), known)

    def _answers(self, question: Question, images: Iterator[Any], known: _Known) -> Iterator[Segmentation]:
        done = 0
        while batch := list(islice(images, self.config.batch_size)):
            yield from self.answer(question, batch, **known.rows(done, done + len(batch)))
            done += len(batch)

    def __repr__(self) -> str:
        more = [f"{key}={value!r}" for key in ("features", "head") if (value := self.recipe[key]) is not None]
        more += [f"{key}={value!r}" for key, value in self._given.items()]
        where = f"{self.backbone.device} {str(self.backbone.dtype).removeprefix('torch.')}"
        return f"Segmenter({', '.join([repr(self.backbone.name), f'method={self.config.method!r}', *more])}) on {where}"


class _Known(NamedTuple):
    """What is known of the pictures of a stream: the same names of all, or names or marks of each."""

    everywhere: list[str] | None
    named: list[list[str]] | None
    marks: list[WeakLabels] | None

    def rows(self, start: int, end: int) -> dict[str, Any]:
        """Arguments of ``answer`` for the pictures from start to end. Raises ValueError where labels have run out."""
        if self.everywhere is not None:
            return {"tags": [self.everywhere] * (end - start)}
        for labels in (self.named, self.marks):
            if labels is not None and len(labels) < end:
                raise ValueError(f"{len(labels)} tag lists or weak labels, but a picture {len(labels) + 1} has come")
        return {
            "tags": None if self.named is None else self.named[start:end],
            "marks": None if self.marks is None else self.marks[start:end],
        }


def is_stream(images: Any) -> bool:
    """Whether these are pictures that come one by one: an iterator that is no open file."""
    return isinstance(images, Iterator) and not hasattr(images, "read")


def _spoken(named: Sequence[Sequence[str]] | None, marks: Sequence[WeakLabels] | None) -> Any:
    """The names that tags or marks use, a list a picture; None without any."""
    return named if marks is None else [sorted(mark_names(labels)) for labels in marks]
