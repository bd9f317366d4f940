"""``Segmenter``: the one place that composes vocabulary, backbone, activations, refinement and decision."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from clipseg_ws.backbones import choose_model, load_backbone, load_features, model_card
from clipseg_ws.backbones.protocol import Backbone, PictureModel
from clipseg_ws.config import Config, check_advice, flatten
from clipseg_ws.fewshot.bank import SupportBank
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.batching import Batching
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.sources import Source
from clipseg_ws.regions.cut import Cutters
from clipseg_ws.stages.answering import answered
from clipseg_ws.stages.banks import Matchers, make_bank
from clipseg_ws.stages.by_head import TrainedHead
from clipseg_ws.stages.by_maps import without_examples
from clipseg_ws.stages.cache import TokenCache
from clipseg_ws.stages.calling import Calling
from clipseg_ws.stages.dense import check_second_model
from clipseg_ws.stages.embeddings import image_embeddings, picture_patches, support_tokens
from clipseg_ws.stages.question import Question, known_of
from clipseg_ws.stages.setups import Models, Setups, check_possible
from clipseg_ws.stages.texts import Texts
from clipseg_ws.structures import TextEmbeddings, Vocabulary, WeakLabels


class Segmenter(Calling):
    """Segments pictures with a frozen CLIP: names in, masks out; or image tags in, masks out.

    Args:
        model: see ``load_backbone``. Left out: the head's, else what ``choose_model`` takes, which fetches nothing.
        method: a preset by name, see ``config.METHODS``.
        device, dtype: "auto" or explicit ("cuda", "cpu", ...; "float32", "bfloat16", "float16").
        offline: never touch the network.
        features: a second vision model ("hf:facebook/dinov2-base", "local-dir:PATH", "photo:stem"), see
            ``load_features``.
        head: a trained head's file (``clipseg-ws train``): it answers alone, without prompts.
        backbone: an already loaded one instead of ``model``.
        settings_of: what counts where no setting is given: "model" (what it recommends), "default" (``Config``'s).
        **config: any field of ``Config``; unknown ones raise.

    Example:
        >>> segment = Segmenter("nano")
        >>> result = segment("scene.png", classes="house; tree; car")
        >>> result.mask("car").sum(), result.save("out")
    """

    def __init__(
        self, model: str | None = None, *, method: str = "default", device: str = "auto", dtype: str = "auto",
        offline: bool = False, features: str | PictureModel | None = None, head: str | Path | None = None,
        backbone: Backbone | None = None, settings_of: str = "model", **config: Any,
    ) -> None:  # fmt: skip
        trained = None if head is None else TrainedHead(head)
        if backbone is None and model is None:
            model = choose_model(warnings.warn) if trained is None else trained.card.backbone
        recipe = {"model": model, "device": device, "offline": offline, "features": features, "backbone": backbone}
        card = model_card(str(model)) if backbone is None else backbone.card
        # a misspelt setting or a second model that is missing should not cost the loading of a model
        check_possible(method, config, card.recommended, features, head)
        if backbone is None:
            backbone = load_backbone(str(model), device=device, dtype=dtype, offline=offline)
        check_advice(backbone.recommended, backbone.card.file)
        self.recipe = recipe | {"dtype": str(backbone.dtype).removeprefix("torch."), "head": head}
        if isinstance(features, str):
            features = load_features(features, backbone.device, dtype, offline)
        trained = None if trained is None else trained.attach(backbone)
        cutters = Cutters(str(backbone.device), offline)
        self._models = Models(backbone, features, trained, Texts(backbone), TokenCache(), Matchers(), cutters)
        self._configure(method, flatten(config), settings_of)

    def _configure(self, method: str, given: dict[str, Any], settings_of: str) -> None:
        """Everything that follows from the settings."""
        self.method, self.settings_of, self._given = method, settings_of, given
        self._setups = Setups(self._models, method, given, settings_of)
        first = self._setups.first
        self.config, self.backbone, self.answerer = first.config, first.backbone, first.answerer
        check_second_model(self.config, self.features, self.head)
        self._batching = Batching(self.config.batch_size)

    @property
    def features(self) -> PictureModel | None:
        """The second vision model."""
        return self._models.features

    @property
    def head(self) -> TrainedHead | None:
        """The trained head, which answers alone."""
        return self._models.head

    def config_of(self, setting: str) -> Config:
        """What answers in a setting ("zero", "weak", "few", "weak-few", "head"); ``config`` is that of "zero"."""
        return self._setups.of(setting).config

    def with_head(self, head: str | Path | None) -> Segmenter:
        """The same weights and settings with another head, or none."""
        trained = None if head is None else TrainedHead(head).attach(self._models.backbone)
        twin = self._twin(replace(self._models, head=trained))
        twin.recipe = self.recipe | {"head": head}
        twin._configure(self.method, self._given, self.settings_of)
        return twin

    def variant(self, method: str | None = None, settings_of: str | None = None, **config: Any) -> Segmenter:
        """Another method or setting on the same weights; text embeddings and cached tokens are shared."""
        twin = self._twin(self._models)
        given = (self._given if method is None else {}) | flatten(config)
        twin._configure(method or self.method, given, settings_of or self.settings_of)
        return twin

    def _twin(self, models: Models) -> Segmenter:
        twin = object.__new__(Segmenter)
        twin.recipe, twin._models = self.recipe, models
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made from, not as weights: a worker process loads the same model on its own device."""
        how = {"method": self.method, "settings_of": self.settings_of}
        return _remake, (self.recipe | how | self._given, self._models.texts.on_cpu())

    def ask(
        self, classes: Any = None, background: Any = None, *, supports: Any = None,
        tags: Iterable[Sequence[str]] | None = None,
    ) -> Question:  # fmt: skip
        """What calls with these arguments look for, resolved once: hand it to ``answer`` as often as you like.

        Args:
            classes, background, supports: as for the call itself.
            tags: names that occur, which are the classes where ``classes`` are left out.

        Raises:
            ValueError: no classes, supports that cannot be used here (SupportError, BankError), a setting not read.

        Example:
            >>> question = segment.ask("house; tree; car")
            >>> results = segment.answer(question, ["a.png", "b.png"])
        """
        bank = None if supports is None else self.bank(supports)
        setup = self._setups.first if bank is None else self._setups.of("few")
        question = setup.asking.question(classes, background, tags, bank)
        setting = "few" if bank is not None else None if tags is None else "weak"
        self._setups.check_question(question, setting)
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
        return answered(self._setups, self._batching, question.to(self.backbone.device), ready, known)

    def vocabulary(
        self, classes: Any = None, background: Any = None, tags: Iterable[Sequence[str]] | None = None
    ) -> Vocabulary:
        """The resolved vocabulary: classes, background words ("auto": by similarity to the classes), templates."""
        return self._setups.first.asking.vocabulary(classes, background, tags)

    def bank(self, supports: Any) -> SupportBank:
        """Supports encoded once for many calls, see ``supports`` there; ``.save(path)``, ``.merge(other)``."""
        setup = self._setups.of("few")
        encode = partial(support_tokens, setup.whole) if self.features is None else None
        return make_bank(supports, self.features or setup.backbone, setup.config, self._by_tag, encode)

    @property
    def encoder_runs(self) -> int:
        """Batches that CLIP has encoded so far, variants included, cached ones not; heads and second models neither."""
        return self._models.tokens.runs

    def prepare(self, image: Any, source: str | None = None) -> Picture:
        """The picture loaded and resized for the network, in a worker thread for example, to be segmented later.

        Another Segmenter may segment it too: one with other sizes resizes it again.
        """
        if source is None and isinstance(image, (str, Path, Source)):
            source = str(image)
        return self.answerer.picture(image, source)

    def embed_images(self, pictures: Sequence[Any]) -> Tensor:
        """Pooled image embeddings [B, E] float32 (not normalised) of pictures that share one grid."""
        return image_embeddings(self._setups.first.whole, pictures)

    def embed_patches(self, pictures: Sequence[Any]) -> Tensor:
        """Unit patch embeddings [B, h, w, E] float32 of pictures that share one grid, in the space of the names."""
        return picture_patches(self._setups.first.whole, pictures)

    def embed_names(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """The vocabulary's text embeddings on the model's device; made once (and kept on disk), pickled with it."""
        return self._models.texts.of(vocabulary)

    def _by_tag(self, pictures: Sequence[Image.Image], labels: Sequence[str]) -> list[Segmentation]:
        """The weak setting with one tag a picture, for supports without a mask."""
        ask = self._twin(self._models)
        ask._configure(self.method, without_examples(self._given) | {"keep_maps": True}, self.settings_of)
        pairs = zip(labels, pictures, strict=True)
        return [ask.answer(ask.ask([label]), [picture], tags=[[label]])[0] for label, picture in pairs]


def _remake(arguments: dict[str, Any], texts: dict[Vocabulary, TextEmbeddings]) -> Segmenter:
    """The Segmenter that ``Segmenter.__reduce__`` wrote down."""
    made = Segmenter(**arguments)
    made._models.texts.add(texts)
    return made
