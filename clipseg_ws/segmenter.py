"""``Segmenter``: the one place that composes vocabulary, backbone, activations, refinement and decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from clipseg_ws.backbones import DEFAULT_MODEL, load_backbone, load_features
from clipseg_ws.backbones.protocol import Backbone, PictureModel
from clipseg_ws.config import flatten, resolve
from clipseg_ws.fewshot.bank import SupportBank
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.batching import Batching
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.stages.answerer import Answerer, check_read
from clipseg_ws.stages.asking import Asking
from clipseg_ws.stages.banks import Matchers, make_bank
from clipseg_ws.stages.by_head import ByHead, TrainedHead
from clipseg_ws.stages.by_maps import ByMaps, question_reads, without_examples
from clipseg_ws.stages.by_words import ByWords
from clipseg_ws.stages.cache import TokenCache
from clipseg_ws.stages.decide import Decision
from clipseg_ws.stages.embeddings import image_embeddings, picture_patches, support_tokens
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.question import Question, known_of
from clipseg_ws.stages.results import make_result, resolved_record, setting_of
from clipseg_ws.stages.texts import Texts
from clipseg_ws.structures import TextEmbeddings, Vocabulary, WeakLabels
from clipseg_ws.weak.given import per_image_tags, weak_list
from clipseg_ws.weak.marks import mark_names


class Segmenter:
    """Segments pictures with a frozen CLIP: names in, masks out; or image tags in, masks out.

    Args:
        model: "ARCH/PRETRAINED" (open_clip), "hf:REPO", "local-dir:PATH", "nano" or "photo"; see ``load_backbone``.
        method: a preset by name, see ``config.METHODS``.
        device, dtype: "auto" or explicit ("cuda", "cpu", ...; "float32", "bfloat16", "float16").
        offline: never touch the network.
        features: a second vision model ("hf:facebook/dinov2-base", "local-dir:PATH", "photo:stem"), see
            ``load_features``.
        head: a trained head's file (``clipseg-ws train``): it answers alone, without prompts.
        backbone: an already loaded one instead of ``model``.
        **config: any field of ``Config``; unknown ones raise.

    Example:
        >>> segment = Segmenter("nano")
        >>> result = segment("scene.png", classes="house; tree; car")
        >>> result.mask("car").sum(), result.save("out")
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, *, method: str = "default", device: str = "auto", dtype: str = "auto",
        offline: bool = False, features: str | PictureModel | None = None, head: str | Path | None = None,
        backbone: Backbone | None = None, **config: Any,
    ) -> None:  # fmt: skip
        resolve(method, config)  # a misspelt setting should not cost the loading of a model
        recipe = {"model": model, "device": device, "offline": offline, "features": features, "backbone": backbone}
        backbone = load_backbone(model, device=device, dtype=dtype, offline=offline) if backbone is None else backbone
        self.recipe = recipe | {"dtype": str(backbone.dtype).removeprefix("torch."), "head": head}
        if isinstance(features, str):
            features = load_features(features, backbone.device, dtype, offline)
        self.features = features
        self.head = None if head is None else TrainedHead(head).attach(backbone)
        self._texts, self._tokens, self._matchers = Texts(backbone), TokenCache(), Matchers()
        self._configure(backbone, method, flatten(config))

    def _configure(self, backbone: Backbone, method: str, given: dict[str, Any]) -> None:
        """Everything that follows from the settings."""
        advice = dict(backbone.recommended) | (self.head.card.settings() if self.head else {})
        self._given, self.config = given, resolve(method, given, advice)
        self.backbone = backbone.with_positions(self.config.position_interpolation, compile=self.config.compile)
        words = self.head is None and self.config.decision == "words"
        models = (self.backbone, self.features, self.config, self._tokens)
        self._whole = Encoder(*models)  # whole patches of a picture; words cut windows themselves
        self.answerer: Answerer = ByWords(Encoder(*models, whole=False)) if words else ByMaps(self._whole)
        if self.head is not None:
            self.answerer = ByHead(self.head, self._whole)
        check_read(self.answerer, self.config, given)
        self._asking = Asking(self.backbone, self.config, self._texts, self._matchers, self.head)
        self._batching = Batching(self.config.batch_size)

    def with_head(self, head: str | Path | None) -> Segmenter:
        """The same weights and settings with another head, or none."""
        twin = self._twin()
        twin.recipe = self.recipe | {"head": head}
        twin.head = None if head is None else TrainedHead(head).attach(self.backbone)
        twin._configure(self.backbone, self.config.method, self._given)
        return twin

    def variant(self, method: str | None = None, **config: Any) -> Segmenter:
        """Another method or setting on the same weights; text embeddings and cached tokens are shared."""
        twin = self._twin()
        given = (self._given if method is None else {}) | flatten(config)
        twin._configure(self.backbone, method or self.config.method, given)
        return twin

    def _twin(self) -> Segmenter:
        twin = object.__new__(Segmenter)
        twin.recipe, twin.head, twin.features = self.recipe, self.head, self.features
        twin._texts, twin._tokens, twin._matchers = self._texts, self._tokens, self._matchers
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made from, not as weights: a worker process loads the same model on its own device."""
        return _remake, (self.recipe | {"method": self.config.method} | self._given, self._texts.on_cpu())

    def __call__(
        self, images: Any, classes: Any = None, *, background: str | Sequence[str] | None = None,
        tags: Sequence[Any] | None = None, supports: Any = None,
        weak: WeakLabels | Sequence[WeakLabels] | None = None,
    ) -> Segmentation | list[Segmentation]:  # fmt: skip
        """Segment one picture or a list of pictures.

        Args:
            images: path, URL, PIL image or uint8 array [H, W, 3]; or a list of these.
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

        Returns one ``Segmentation`` for one picture, a list for a list. Raises ValueError as ``ask`` and ``answer``.
        """
        single = not isinstance(images, (list, tuple))
        listed = [images] if single else list(images)
        named = per_image_tags(tags, len(listed), single)
        marks = None if weak is None else weak_list(weak, len(listed), tags)
        spoken = named if marks is None else [sorted(mark_names(labels)) for labels in marks]
        question = self.ask(classes, background, supports=supports, tags=spoken)
        results = self.answer(question, listed, tags=named, marks=marks)
        return results[0] if single else results

    def ask(
        self, classes: Any = None, background: Any = None, *, supports: Any = None,
        tags: Iterable[Sequence[str]] | None = None,
    ) -> Question:  # fmt: skip
        """What calls with these arguments look for, resolved once: hand it to ``answer`` as often as you like.

        Args:
            classes, background, supports: as for the call itself.
            tags: names that occur, which are the classes where ``classes`` are left out.

        Raises:
            ValueError: no classes, classes that the bank cannot serve, a method or a head that takes no supports,
                supports that cannot be used (SupportError, BankError), a setting that this question does not read.

        Example:
            >>> question = segment.ask("house; tree; car")
            >>> results = segment.answer(question, ["a.png", "b.png"])
        """
        bank = None if supports is None else self.bank(supports)
        question = self._asking.question(classes, background, tags, bank)
        if self.answerer.name == "maps":
            reads = question_reads(self.answerer.reads, question)
            check_read(self.answerer, self.config, self._given, reads, question.kind)
        return question

    def answer(
        self, question: Question, pictures: Sequence[Any], *, tags: Sequence[Sequence[str]] | None = None,
        marks: Sequence[WeakLabels] | None = None,
    ) -> list[Segmentation]:  # fmt: skip
        """One result a picture, in order.

        Args:
            question: of ``ask``. pictures: whatever the call takes, or what ``prepare`` made.
            tags: the weak setting: the names in each picture. marks: instead of them, with boxes, points, scribbles.

        Raises:
            ValueError: unknown tags, contradicting marks, a picture that cannot be read.
        """
        ready = [self.prepare(picture) for picture in pictures]
        known = known_of(question.vocabulary, [picture.size for picture in ready], tags, marks)
        question, device = question.to(self.backbone.device), self.backbone.device

        def decide(rows: Sequence[int]) -> list[Decision]:
            return self.answerer.decide([ready[i] for i in rows], question, known.rows(rows, device))

        decided = self._batching.run_grouped([(p.grid, known.kind(row)) for row, p in enumerate(ready)], decide)
        record = resolved_record(self.config, self.backbone, self.features, question, self.head)
        settings = [setting_of(question, known.kind(row)[0], self.head is not None) for row in range(len(ready))]
        made = zip(ready, decided, settings, strict=True)
        return [make_result(picture, one, question, setting, record, self.config) for picture, one, setting in made]

    def vocabulary(
        self, classes: Any = None, background: Any = None, tags: Iterable[Sequence[str]] | None = None
    ) -> Vocabulary:
        """The resolved vocabulary: classes, background words ("auto": by similarity to the classes), templates."""
        return self._asking.vocabulary(classes, background, tags)

    def bank(self, supports: Any) -> SupportBank:
        """Supports encoded once for many calls, see ``supports`` there; ``.save(path)``, ``.merge(other)``."""
        backbone = self.features or self.backbone
        encode = partial(support_tokens, self._whole) if self.features is None else None
        return make_bank(supports, backbone, self.config, self._by_tag, encode)

    @property
    def encoder_runs(self) -> int:
        """Batches that CLIP has encoded so far, here and in all variants; with ``cache_mb`` those that were not in the
        cache. Passes of a trained head and of a second vision model are not counted."""
        return self._tokens.runs

    def prepare(self, image: Any, source: str | None = None) -> Picture:
        """The picture loaded and resized for the network, in a worker thread for example, to be segmented later.

        Another Segmenter may segment it too: one with other sizes resizes it again.
        """
        if source is None and not isinstance(image, (Picture, Image.Image, np.ndarray)):
            source = str(image)
        return self.answerer.picture(image, source)

    def embed_images(self, pictures: Sequence[Any]) -> Tensor:
        """Pooled image embeddings [B, E] float32 (not normalised) of pictures that share one grid."""
        return image_embeddings(self._whole, pictures)

    def embed_patches(self, pictures: Sequence[Any]) -> Tensor:
        """Unit patch embeddings [B, h, w, E] float32 of pictures that share one grid, in the space of the names."""
        return picture_patches(self._whole, pictures)

    def embed_names(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """The vocabulary's text embeddings on the model's device; made once (and kept on disk), pickled with it."""
        return self._texts.of(vocabulary)

    def _by_tag(self, pictures: Sequence[Image.Image], labels: Sequence[str]) -> list[Segmentation]:
        """The weak setting with one tag a picture, for supports without a mask."""
        ask = self._twin()
        ask._configure(self.backbone, self.config.method, without_examples(self._given) | {"keep_maps": True})
        pairs = zip(labels, pictures, strict=True)
        return [ask.answer(ask.ask([label]), [picture], tags=[[label]])[0] for label, picture in pairs]


def _remake(arguments: dict[str, Any], texts: dict[Vocabulary, TextEmbeddings]) -> Segmenter:
    """The Segmenter that ``Segmenter.__reduce__`` wrote down."""
    made = Segmenter(**arguments)
    made._texts.add(texts)
    return made
