"""What a call looks for, resolved once: the vocabulary, its embeddings, the examples; and what is known of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.fewshot.matcher import FewShotMatcher
from clipseg_ws.structures import TextEmbeddings, Vocabulary, WeakLabels
from clipseg_ws.weak.constraints import Constraints, constraints
from clipseg_ws.weak.given import present_mask, tag_indices


@dataclass(frozen=True, eq=False)
class Examples:
    """A bank that takes part in an answer.

    Attributes:
        matcher: the prepared bank. own: vocabulary index of each of the matcher's asked classes. count: classes C.
        text: names beside the examples, or None: the examples alone. known: other known words (BAM), or None.
        weights: [C] of the names, ``fewshot.calibration``; None: ``text_weight``.
    """

    matcher: FewShotMatcher
    own: tuple[int, ...]
    count: int
    text: TextEmbeddings | None
    known: TextEmbeddings | None
    weights: Tensor | None = None

    def to(self, device: torch.device | str) -> Examples:
        """The same on another device; the bank is prepared anew there."""
        matcher = FewShotMatcher(self.matcher.source.to(device), self.matcher.config)
        weights = None if self.weights is None else self.weights.to(device)
        text, known = moved(self.text, device), moved(self.known, device)
        return replace(self, matcher=matcher, text=text, known=known, weights=weights)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the bank and the words on the CPU."""
        bank, config = self.matcher.source.to("cpu"), self.matcher.config
        texts = (moved(self.text, "cpu"), moved(self.known, "cpu"))
        weights = None if self.weights is None else self.weights.cpu()
        return _examples, (bank, config, self.own, self.count, *texts, weights)


def _examples(bank: Any, config: Any, own: Any, count: int, text: Any, known: Any, weights: Any) -> Examples:
    return Examples(FewShotMatcher(bank, config), own, count, text, known, weights)


@dataclass(frozen=True, eq=False)
class Question:
    """What a call looks for. Made by ``Segmenter.ask``, answered by ``Segmenter.answer``; nobody resolves it again.

    Attributes:
        vocabulary: names, synonyms, background words (a tuple: () for none), templates.
        text: its embeddings on the model's device; None where examples answer alone, or a head.
        examples: the examples that take part; None: names alone.
        unknown: classes whose words the model does not know -> the nearest word that it knows, or None.
    """

    vocabulary: Vocabulary
    text: TextEmbeddings | None = None
    examples: Examples | None = None
    unknown: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """ "names alone", "examples alone", "names and examples"."""
        if self.examples is None:
            return "names alone"
        return "examples alone" if self.text is None else "names and examples"

    @property
    def device(self) -> torch.device | None:
        """Where its tensors lie; None without any."""
        if self.text is not None:
            return self.text.owner.device
        return None if self.examples is None else self.examples.matcher.bank.ways.device

    def to(self, device: torch.device) -> Question:
        """The same on another device; itself where it is there already."""
        if self.device in (None, device):
            return self
        examples = None if self.examples is None else self.examples.to(device)
        return replace(self, text=moved(self.text, device), examples=examples)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its tensors on the CPU."""
        return Question, (self.vocabulary, moved(self.text, "cpu"), self.examples, dict(self.unknown))


def moved(text: TextEmbeddings | None, device: Any) -> Any:
    """Embeddings on another device, None as it is."""
    return None if text is None else replace(text, vectors=text.vectors.to(device), owner=text.owner.to(device))


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of B pictures before they are looked at.

    Attributes:
        present: [B, C] bool on the CPU, the classes that are there (weak setting); None: not known of any picture.
        marks: boxes, points and scribbles of each picture; None: no picture has any.
        told: of which pictures ``present`` says anything; (): of all. Marks that name no class say nothing of it.
    """

    present: Tensor | None = None
    marks: tuple[Constraints, ...] | None = None
    told: tuple[bool, ...] = ()

    def kind(self, row: int) -> tuple[bool, bool]:
        """Whether it is known which classes are in a picture, and whether anything is known of its pixels.

        Pictures of one kind are answered together; of another kind each is answered as if it were given alone.
        """
        tells = self.present is not None and (not self.told or self.told[row])
        return tells, self.marks is not None and self.marks[row].marked

    def rows(self, members: Sequence[int], device: torch.device) -> Known:
        """Of some of the pictures, the marks on ``device``. Raises ValueError where they are of several kinds."""
        kinds = {self.kind(row) for row in members}
        if len(kinds) > 1:
            raise ValueError("pictures of which different things are known in one batch; answer them apart")
        tells, marked = kinds.pop() if kinds else (False, False)
        present = self.present[list(members)] if self.present is not None and tells else None
        marks = tuple(self.marks[i].to(device) for i in members) if self.marks is not None and marked else None
        return Known(present, marks)


def known_of(
    vocabulary: Vocabulary, sizes: Sequence[tuple[int, int]], tags: Sequence[Sequence[str]] | None,
    weak: Sequence[WeakLabels] | None,
) -> Known:  # fmt: skip
    """Tags or marks by name -> what they say of pictures of ``sizes`` (H, W), in indices and pixels.

    Raises ValueError for unknown names and marks that contradict one another.
    """
    count = len(vocabulary.names)
    if weak is None:
        indices = tag_indices(None if tags is None else [list(t) for t in tags], vocabulary)
        return Known(None if indices is None else present_mask(indices, count))
    marks = tuple(constraints(labels, vocabulary, size) for labels, size in zip(weak, sizes, strict=True))
    told = tuple(mark.present is not None for mark in marks)
    return Known(present_mask([list(mark.present or ()) for mark in marks], count), marks, told)
