"""Text embeddings of vocabularies on the model's device: made once, shared by variants, pickled with them."""

from __future__ import annotations

from collections.abc import Mapping

from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.stages.question import moved
from clipseg_ws.structures import TextEmbeddings, Vocabulary
from clipseg_ws.text.embeddings import embed_vocabulary

KEPT = 128  # vocabularies; a service is asked for new names for ever


class Texts:
    """The last ``KEPT`` vocabularies of one model.

    Args:
        backbone: whose text tower encodes; what it made is kept on disk too.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._kept: dict[Vocabulary, TextEmbeddings] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """The embeddings, on the model's device. Raises ValueError for background words that were not resolved."""
        if vocabulary not in self._kept:
            while len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            text = embed_vocabulary(vocabulary, self._backbone.embed_text, weights_key=self._backbone.weights_sha256)
            self._kept[vocabulary] = moved(text, self._backbone.device)
        return self._kept[vocabulary]

    def on_cpu(self) -> dict[Vocabulary, TextEmbeddings]:
        """All that are kept, to travel to another process."""
        return {vocabulary: moved(text, "cpu") for vocabulary, text in self._kept.items()}

    def add(self, texts: Mapping[Vocabulary, TextEmbeddings]) -> None:
        """What ``on_cpu`` gave."""
        self._kept |= {vocabulary: moved(text, self._backbone.device) for vocabulary, text in texts.items()}
