"""From what a caller says to a ``Question``, once: names, examples, or a head's own classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.config import Config
from clipseg_ws.fewshot.bank import SupportBank
from clipseg_ws.stages.banks import Matchers
from clipseg_ws.stages.by_head import TrainedHead
from clipseg_ws.stages.names import resolve_names, warn_unknown
from clipseg_ws.stages.question import Question
from clipseg_ws.stages.texts import Texts
from clipseg_ws.structures import Vocabulary

Names = Iterable[Sequence[str]] | None


class Asking:
    """Makes questions for one configuration.

    Args:
        texts, matchers: shared by all configurations of one model. head: answers alone where there is one.
    """

    def __init__(
        self, backbone: Backbone, config: Config, texts: Texts, matchers: Matchers, head: TrainedHead | None
    ) -> None:
        self.backbone, self.config, self.texts, self.matchers, self.head = backbone, config, texts, matchers, head

    def vocabulary(self, classes: Any = None, background: Any = None, tags: Names = None) -> Vocabulary:
        """See ``Segmenter.vocabulary``."""
        if self.head is not None:
            return self.head.vocabulary(classes, background)
        return resolve_names(self.backbone, self.config, classes, background, tags)

    def question(self, classes: Any, background: Any, tags: Names, bank: SupportBank | None) -> Question:
        """See ``Segmenter.ask``. Warns of classes that the model does not know, where their names count."""
        question = self._question(classes, background, tags, bank)
        if question.text is None:
            return question
        unknown = warn_unknown(question.vocabulary, self.backbone.card, self.backbone.name, stacklevel=5)
        return replace(question, unknown=unknown) if unknown else question

    def _question(self, classes: Any, background: Any, tags: Names, bank: SupportBank | None) -> Question:
        if self.head is not None and bank is not None:
            raise ValueError(f"the head {self.head.path!r} answers alone, it takes no supports; leave one of them out")
        if bank is not None:
            return self._with_examples(bank, classes, background, tags)
        vocabulary = self.vocabulary(classes, background, tags)
        return Question(vocabulary, None if self.head is not None else self.texts.of(vocabulary))

    def _with_examples(self, bank: SupportBank, classes: Any, background: Any, tags: Names) -> Question:
        """Names and examples together, or the examples alone."""
        words = self.config.step("known")
        known = None if words is None else self.texts.of(self.vocabulary(words["words"]))
        if classes is None:
            vocabulary, examples = self.matchers.by_examples(bank, self.config, known)
            return Question(vocabulary, None, examples)
        vocabulary = self.vocabulary(classes, background, tags)
        text = self.texts.of(vocabulary) if self.config.fewshot.text_weight else None
        scale = self.backbone.logit_scale if self.config.logit_scale is None else self.config.logit_scale
        return Question(vocabulary, text, self.matchers.with_names(bank, vocabulary, text, self.config, known, scale))
