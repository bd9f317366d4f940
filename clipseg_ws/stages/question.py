"""What a call looks for, resolved once: the vocabulary, its embeddings, the examples; and what is known of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.fewshot.matcher import FewShotMatcher
from clipseg_ws.structures import TextEmbeddings, Vocabulary
from clipseg_ws.weak.constraints import Constraints


@dataclass(frozen=True, eq=False)
class Examples:
    """A bank that takes part in an answer.

    Attributes:
        matcher: the prepared bank. own: vocabulary index of each of the matcher's asked classes. count: classes C.
        text: names beside the examples, or None: the examples alone. known: other known words (BAM), or None.
    """

    matcher: FewShotMatcher
    own: tuple[int, ...]
    count: int
    text: TextEmbeddings | None
    known: TextEmbeddings | None

    def to(self, device: torch.device | str) -> Examples:
        """The same on another device; the bank is prepared anew there."""
        matcher = FewShotMatcher(self.matcher.source.to(device), self.matcher.config)
        return replace(self, matcher=matcher, text=moved(self.text, device), known=moved(self.known, device))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the bank and the words on the CPU."""
        bank, config = self.matcher.source.to("cpu"), self.matcher.config
        texts = (moved(self.text, "cpu"), moved(self.known, "cpu"))
        return _examples, (bank, config, self.own, self.count, *texts)


def _examples(bank: Any, config: Any, own: Any, count: int, text: Any, known: Any) -> Examples:
    return Examples(FewShotMatcher(bank, config), own, count, text, known)


@dataclass(frozen=True, eq=False)
class Question:
    """What a call looks for. Made by ``Segmenter.ask``, answered by ``Segmenter.answer``; nobody resolves it again.

    Attributes:
        vocabulary: names, synonyms, background words (a tuple: () for none), templates.
        text: its embeddings on the model's device; None where examples answer alone, or a head.
        examples: the examples that take part; None: names alone.
    """

    vocabulary: Vocabulary
    text: TextEmbeddings | None = None
    examples: Examples | None = None

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
        return Question, (self.vocabulary, moved(self.text, "cpu"), self.examples)


def moved(text: TextEmbeddings | None, device: Any) -> Any:
    """Embeddings on another device, None as it is."""
    return None if text is None else replace(text, vectors=text.vectors.to(device), owner=text.owner.to(device))


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of B pictures before they are looked at.

    Attributes:
        present: [B, C] bool on the CPU, the classes that are there (weak setting); None: not known.
        marks: boxes, points and scribbles of each picture; None: no picture has any.
    """

    present: Tensor | None = None
    marks: tuple[Constraints, ...] | None = None

    def rows(self, members: Sequence[int], device: torch.device) -> Known:
        """Of some of the pictures, the marks on ``device``."""
        present = None if self.present is None else self.present[list(members)]
        marks = None if self.marks is None else tuple(self.marks[i].to(device) for i in members)
        return Known(present, marks)
