"""``Segmenter``: the one place that composes vocabulary, backbone, activations, refinement and decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from torch import Tensor

from clipseg_ws.activations.last_block import forward_last_block, pool_embedding
from clipseg_ws.backbones import DEFAULT_MODEL, load_backbone
from clipseg_ws.backbones.features import FeatureBackbone, load_features
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import PRESETS, Config, flatten, resolve
from clipseg_ws.fewshot.bank import SupportBank
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.batching import Batching
from clipseg_ws.pictures.images import to_image
from clipseg_ws.stages.banks import Matchers, make_bank
from clipseg_ws.stages.by_head import HeadStage
from clipseg_ws.stages.decisions import Decision, decide_maps, decide_words
from clipseg_ws.stages.dense import patch_embeddings, repaired
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.examples import Examples
from clipseg_ws.stages.names import resolve_names
from clipseg_ws.stages.picture_maps import picture_maps
from clipseg_ws.stages.results import make_result, resolved_record
from clipseg_ws.stages.token_cache import TokenCache
from clipseg_ws.structures import TextEmbeddings, Vocabulary, WeakLabels
from clipseg_ws.text.embeddings import embed_vocabulary
from clipseg_ws.weak.constraints import Constraints, constraints
from clipseg_ws.weak.given import per_image_tags, present_mask, tag_indices, weak_list
from clipseg_ws.weak.marks import mark_names

__all__ = ["PRESETS", "Config", "Segmenter"]


class Segmenter:
    """Segments pictures with a frozen CLIP: names in, masks out; or image tags in, masks out.

    Args:
        model: "ARCH/PRETRAINED" (open_clip), "hf:REPO", "local-dir:PATH" or "nano"; see ``load_backbone``.
        method: a preset by name, see ``config.PRESETS``.
        device, dtype: "auto" or explicit ("cuda", "cpu", ...; "float32", "bfloat16", "float16").
        offline: never touch the network.
        features: a second vision model as source of patch features ("hf:facebook/dinov2-base", "local-dir:PATH", see
            ``backbones.features``): ProxyCLIP's attention. Kept as ``self.features`` and shared by variants.
        head: a trained head's file (``clipseg-ws train``): it answers alone, without prompts; its classes.
        backbone: an already loaded one instead of ``model``.
        **config: any field of ``Config``; unknown ones raise.

    Example:
        >>> segment = Segmenter("nano")
        >>> result = segment("scene.png", classes="house; tree; car")
        >>> result.mask("car").sum(), result.save("out")
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        method: str = "default",
        device: str = "auto",
        dtype: str = "auto",
        offline: bool = False,
        features: str | FeatureBackbone | None = None,
        head: str | Path | None = None,
        backbone: OpenClipBackbone | None = None,
        **config: Any,
    ) -> None:
        resolve(method, config)  # a misspelt setting should not cost the loading of a model
        recipe = {"model": model, "device": device, "offline": offline, "features": features, "backbone": backbone}
        backbone = load_backbone(model, device=device, dtype=dtype, offline=offline) if backbone is None else backbone
        self._given = flatten(config)
        self.head = None if head is None else HeadStage(head).attach(backbone)
        self.config = resolve(method, config, self._advice(backbone))
        self.backbone = backbone.with_positions(self.config.position_interpolation, compile=self.config.compile)
        self.recipe = recipe | {"dtype": str(backbone.dtype).removeprefix("torch."), "head": head}
        if isinstance(features, str):
            features = load_features(features, backbone.device, dtype, offline)
        self.features = features
        self._texts: dict[Vocabulary, TextEmbeddings] = {}
        self._tokens = TokenCache()
        self._encoder = Encoder(self.backbone, features, self.config, self._tokens)
        self._matchers = Matchers()
        self._batching = Batching(self.config.batch_size)

    def with_head(self, head: str | Path | None) -> Segmenter:
        """The same weights and settings with another head, or none."""
        twin = self.variant()
        twin.recipe = self.recipe | {"head": head}
        twin.head = None if head is None else HeadStage(head).attach(self.backbone)
        return twin.variant()

    def variant(self, method: str | None = None, **config: Any) -> Segmenter:
        """Another method or setting on the same weights; text embeddings and cached tokens are shared."""
        twin = object.__new__(Segmenter)
        twin._given = (self._given if method is None else {}) | flatten(config)
        twin.head = self.head
        twin.config = resolve(method or self.config.method, twin._given, self._advice(self.backbone))
        twin.backbone = self.backbone.with_positions(twin.config.position_interpolation, compile=twin.config.compile)
        twin.recipe, twin._batching = self.recipe, Batching(twin.config.batch_size)
        twin.features, twin._texts, twin._tokens = self.features, self._texts, self._tokens
        twin._encoder = Encoder(twin.backbone, twin.features, twin.config, twin._tokens)
        twin._matchers = self._matchers
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made from, not as weights: a worker process loads the same model on its own device."""
        texts = {vocabulary: _moved(text, "cpu") for vocabulary, text in self._texts.items()}
        return _remake, (self.recipe | {"method": self.config.method} | self._given, texts)

    def __call__(
        self,
        images: Any,
        *,
        classes: Any = None,
        background: str | Sequence[str] | None = None,
        tags: Sequence[Any] | None = None,
        supports: Any = None,
        weak: WeakLabels | Sequence[WeakLabels] | None = None,
    ) -> Segmentation | list[Segmentation]:
        """Segment one picture or a list of pictures.

        Args:
            images: path, URL, PIL image or uint8 array [H, W, 3]; or a list of these.
            classes: "cat; person, people" (``;`` between classes, ``,`` between synonyms), a list, a ``Vocabulary``, a
                class file, or a name from ``prompts/``. May be left out where ``tags`` are given, and with a model that
                knows its own classes (nano).
            background: words that compete as background; the class file's own, else the configuration's, by default.
            tags: the weak setting: the classes that are in the picture (a list of lists for several pictures); an
                empty list means that only background is there.
            supports: the few setting: examples with masks, ``Support(image, mask, label)`` or a list of these; a folder
                ``label/picture.jpg`` + ``label/picture.png``; a bank (``Segmenter.bank``) or the file of one, which is
                encoded once for many calls. Without ``classes`` the supports' labels are looked for, by the examples
                alone; with ``classes`` names and examples count together. A support with a label and no mask gets a
                mask by the weak setting first.
            weak: the weak setting with boxes, points and scribbles (one ``WeakLabels`` per picture); the answer never
                contradicts them. Not together with ``tags``, which are a field of it.

        Returns:
            One ``Segmentation`` for one picture, a list for a list.

        Raises:
            ValueError: no classes, unknown tags, tags that do not fit the pictures, a picture that cannot be read,
                weak labels that contradict one another. SupportError, BankError (both ValueError): examples or a bank
                that cannot be used.
        """
        single = not isinstance(images, (list, tuple))
        pictures = [to_image(image) for image in ([images] if single else images)]
        per_image = per_image_tags(tags, len(pictures), single)
        given = None if weak is None else weak_list(weak, len(pictures), tags)
        named = per_image if given is None else [sorted(mark_names(labels)) for labels in given]
        bank = None if supports is None else self.bank(supports)
        vocabulary, examples = self.asked(bank, classes, background, named)
        indices, marks = tag_indices(per_image, vocabulary), None
        if given is not None:
            marks = [
                constraints(labels, vocabulary, (picture.height, picture.width))
                for labels, picture in zip(given, pictures, strict=True)
            ]
            everything = range(len(vocabulary.names))
            indices = [list(everything if m.present is None else m.present) for m in marks]
        results = self._segment(pictures, vocabulary, indices, marks, examples)
        sources = [images] if single else list(images)
        results = [
            r if isinstance(s, (Image.Image, np.ndarray)) else replace(r, source=str(s))
            for r, s in zip(results, sources, strict=True)
        ]
        return results[0] if single else results

    def vocabulary(
        self, classes: Any = None, background: Any = None, tags: Iterable[Sequence[str]] | None = None
    ) -> Vocabulary:
        """The resolved vocabulary: classes, background words (those that are classes left out; "auto": chosen by
        similarity to the classes), templates."""
        if self.head is not None:
            return self.head.vocabulary(classes, background)
        return resolve_names(self.backbone, self.config, classes, background, tags)

    def bank(self, supports: Any) -> SupportBank:
        """Supports encoded once for many calls, see ``supports`` there; ``.save(path)``, ``.merge(other)``."""
        backbone = self.features or self.backbone
        cached = self._encoder.clip if self.features is None and self.config.cache_tokens else None
        return make_bank(supports, backbone, self.config, self._by_tag, cached)

    def asked(
        self, bank: SupportBank | None, classes: Any = None, background: Any = None, tags: Any = None
    ) -> tuple[Vocabulary, Examples | None]:
        """What a call with these arguments looks for: the vocabulary, and how the bank takes part in it.

        Raises:
            ValueError: no classes, classes that the bank cannot serve, a method or a head that takes no supports.
        """
        if bank is None:
            return self.vocabulary(classes, background, tags), None
        if self.head is not None:
            raise ValueError(f"the head {self.head.path!r} answers alone, it takes no supports; leave one of them out")
        if classes is None:
            return self._matchers.by_examples(bank, self.config, self._known())
        vocabulary = self.vocabulary(classes, background, tags)
        text = self.embed_names(vocabulary) if self.config.fewshot.text_weight else None
        return vocabulary, self._matchers.with_names(bank, vocabulary, text, self.config, self._known())

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (h, w) that a picture of ``size`` (width, height) gets: pictures of one grid share a batch."""
        return self._encoder.grid(size)

    def prepare(self, image: Any) -> Image.Image:
        """The picture with its network input made beforehand, in a worker thread for example, to be segmented later.

        Takes what ``to_image`` takes. Another Segmenter may segment it too: one with other sizes resizes it again.
        """
        return self._encoder.prepare(image)

    def embed_images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pooled image embeddings [B, E] float32 (not normalised) of pictures that share one grid, see ``grid``."""
        tokens = self._encoder.clip(list(pictures))
        block = forward_last_block(self.backbone, tokens.last_input, tokens.last)
        return pool_embedding(self.backbone, block.out, self.config.pool)

    def embed_patches(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Unit patch embeddings [B, h, w, E] float32 of pictures that share one grid, in the space of the names."""
        tokens, proxy = self._encoder.clip(pictures), self._encoder.proxy(pictures)
        return patch_embeddings(self.backbone, repaired(tokens, self.config), self.config, proxy).float()

    def _advice(self, backbone: OpenClipBackbone) -> dict[str, Any]:
        return backbone.recommended | (self.head.card.settings() if self.head else {})

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _by_tag(self, pictures: Sequence[Image.Image], labels: Sequence[str]) -> list[Segmentation]:
        """The weak setting with one tag a picture, for supports without a mask."""
        ask = self.variant(keep_maps=True)
        pairs = zip(pictures, labels, strict=True)
        return [cast(Segmentation, ask(picture, classes=[label], tags=[label])) for picture, label in pairs]

    def _segment(
        self,
        pictures: list[Image.Image],
        vocabulary: Vocabulary,
        tags: list[list[int]] | None,
        marks: list[Constraints] | None = None,
        examples: Examples | None = None,
    ) -> list[Segmentation]:
        if self.head is not None:
            decided = self.head.decide(self.backbone, pictures, vocabulary, self.config, self._batching, tags, marks)
            record = resolved_record(self.config, self.backbone, self.features, vocabulary)
            record |= {"head": self.head.describe()}
            pairs = zip(pictures, decided, strict=True)
            return [make_result(p, answer, vocabulary, "head", record, self.config) for p, answer in pairs]
        text = None if examples is not None else self.embed_names(vocabulary)
        if text is not None and self.config.decision == "words":
            decided = [
                decide_words(
                    self.backbone,
                    picture,
                    text,
                    self.config,
                    None if tags is None else tags[i],
                    None if marks is None else marks[i].to(text.owner.device),
                    self.features,
                )
                for i, picture in enumerate(pictures)
            ]
        else:
            decided = self._by_maps(pictures, vocabulary, text, tags, marks, examples)
        record = resolved_record(self.config, self.backbone, self.features, vocabulary, examples)
        setting = "zero" if tags is None else "weak"
        if examples is not None:
            setting = "weak-few" if examples.matcher.source.predicted else "few"
        return [
            make_result(picture, answer, vocabulary, setting, record, self.config, examples)
            for picture, answer in zip(pictures, decided, strict=True)
        ]

    def _by_maps(
        self,
        pictures: list[Image.Image],
        vocabulary: Vocabulary,
        text: TextEmbeddings | None,
        tags: list[list[int]] | None,
        marks: list[Constraints] | None = None,
        examples: Examples | None = None,
    ) -> list[Decision]:
        """Group the pictures by grid, run batch by batch, and put the answers back in order."""
        device = self.backbone.device

        def answer(batch: Sequence[int]) -> list[Decision]:
            present = None
            if tags is not None:
                present = present_mask([tags[i] for i in batch], len(vocabulary.names)).to(device)
            mine = None if marks is None else [marks[i].to(device) for i in batch]
            maps = picture_maps(self._encoder, [pictures[i] for i in batch], text, present, mine, examples)
            each: Sequence[Constraints | None] = mine or [None] * len(batch)
            return [decide_maps(pictures[i], maps, row, self.config, each[row]) for row, i in enumerate(batch)]

        return self._batching.run_grouped([self._encoder.grids(picture.size) for picture in pictures], answer)

    def _known(self) -> TextEmbeddings | None:
        """Other known words that take their own pixels from examples (BAM)."""
        words = self.config.fewshot.known
        return None if words is None else self.embed_names(self.vocabulary(words))

    def embed_names(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """The vocabulary's text embeddings on the model's device; made once (and kept on disk), pickled with it."""
        if vocabulary not in self._texts:
            text = embed_vocabulary(vocabulary, self.backbone.encode_text, weights_key=self.backbone.weights_sha256)
            self._texts[vocabulary] = _moved(text, self.backbone.device)
        return self._texts[vocabulary]


def _remake(arguments: dict[str, Any], texts: dict[Vocabulary, TextEmbeddings]) -> Segmenter:
    """The Segmenter that ``Segmenter.__reduce__`` wrote down."""
    made = Segmenter(**arguments)
    made._texts |= {vocabulary: _moved(text, made.backbone.device) for vocabulary, text in texts.items()}
    return made


def _moved(text: TextEmbeddings, device: Any) -> TextEmbeddings:
    return replace(text, vectors=text.vectors.to(device), owner=text.owner.to(device))
