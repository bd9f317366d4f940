"""``Segmenter``: the one place that composes vocabulary, backbone, activations, refinement and decision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipseg_ws import __version__
from clipseg_ws.activations.featuremaps import layers_needed
from clipseg_ws.activations.last_block import forward_last_block, pool_embedding
from clipseg_ws.backbones import load_backbone
from clipseg_ws.backbones.features import FeatureBackbone, load_features
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.bank import SupportBank
from clipseg_ws.config import PRESETS, Config, flatten, resolve
from clipseg_ws.decisions import Decision, decide_maps, decide_words
from clipseg_ws.fewshot_stages import Examples, Query, example_maps
from clipseg_ws.fewshot_supports import Matchers, make_bank
from clipseg_ws.images import target_size, to_image, to_pixels
from clipseg_ws.inputs import per_image_tags, present_mask, tag_indices, weak_list
from clipseg_ws.prompt_lists import load_background
from clipseg_ws.stages import ClassMaps, class_maps
from clipseg_ws.structures import Segmentation, TextEmbeddings, Tokens, Vocabulary, WeakLabels
from clipseg_ws.text_embeddings import embed_vocabulary
from clipseg_ws.token_cache import TokenCache
from clipseg_ws.vocabulary import parse_classes
from clipseg_ws.weak_constraints import Constraints, constraints
from clipseg_ws.weak_marks import mark_names

__all__ = ["PRESETS", "Config", "Segmenter"]

DEFAULT_MODEL = "ViT-B-16-quickgelu/openai"
DEFAULT_BACKGROUND = "voc-clip-es"


class Segmenter:
    """Segments pictures with a frozen CLIP: names in, masks out; or image tags in, masks out.

    Args:
        model: "ARCH/PRETRAINED" (open_clip), "hf:REPO", "local-dir:PATH" or "nano"; see ``load_backbone``.
        method: a preset by name, see ``config.PRESETS``.
        device, dtype: "auto" or explicit ("cuda", "cpu", ...; "float32", "bfloat16", "float16").
        offline: never touch the network.
        features: a second vision model as source of patch features ("hf:facebook/dinov2-base", "local-dir:PATH", see
            ``backbones.features``): ProxyCLIP's attention. Kept as ``self.features`` and shared by variants.
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
        backbone: OpenClipBackbone | None = None,
        **config: Any,
    ) -> None:
        resolve(method, config)  # a misspelt setting should not cost the loading of a model
        backbone = load_backbone(model, device=device, dtype=dtype, offline=offline) if backbone is None else backbone
        self._given = flatten(config)
        self.config = resolve(method, config, backbone.recommended)
        self.backbone = backbone.with_positions(self.config.position_interpolation)
        if isinstance(features, str):
            features = load_features(features, backbone.device, dtype, offline)
        self.features = features
        self._texts: dict[Vocabulary, TextEmbeddings] = {}
        self._tokens = TokenCache()
        self._matchers = Matchers()

    def variant(self, method: str | None = None, **config: Any) -> Segmenter:
        """Another method or setting on the same weights; text embeddings and cached tokens are shared."""
        twin = object.__new__(Segmenter)
        twin._given = (self._given if method is None else {}) | flatten(config)
        twin.config = resolve(method or self.config.method, twin._given, self.backbone.recommended)
        twin.backbone = self.backbone.with_positions(twin.config.position_interpolation)
        twin.features, twin._texts, twin._tokens = self.features, self._texts, self._tokens
        twin._matchers = self._matchers
        return twin

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
        """The resolved vocabulary: classes, background words (those that are classes left out), templates."""
        if classes is None:
            classes = self._default_classes(tags)
        config = self.config
        vocabulary = parse_classes(classes, background=background, templates=config.templates, fusion=config.fusion)
        if background is None and (config.background is not None or not vocabulary.background):
            words = load_background(config.background if config.background is not None else DEFAULT_BACKGROUND)
            taken = {word.lower() for synonyms in vocabulary.synonyms for word in synonyms} | {
                name.lower() for name in vocabulary.names
            }
            vocabulary = replace(vocabulary, background=tuple(w for w in words if w.lower() not in taken))
        return vocabulary

    def bank(self, supports: Any) -> SupportBank:
        """Supports encoded once for many calls, see ``supports`` there; ``.save(path)``, ``.merge(other)``."""
        backbone = self.features or self.backbone
        return make_bank(supports, backbone, self.config, self._by_tag)

    def asked(
        self, bank: SupportBank | None, classes: Any = None, background: Any = None, tags: Any = None
    ) -> tuple[Vocabulary, Examples | None]:
        """What a call with these arguments looks for: the vocabulary, and how the bank takes part in it.

        Raises:
            ValueError: no classes, classes that the bank cannot serve, or a method that takes no supports.
        """
        if bank is None:
            return self.vocabulary(classes, background, tags), None
        if classes is None:
            return self._matchers.by_examples(bank, self.config, self._known())
        vocabulary = self.vocabulary(classes, background, tags)
        text = self._embed(vocabulary) if self.config.fewshot.text_weight else None
        return vocabulary, self._matchers.with_names(bank, vocabulary, text, self.config, self._known())

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (h, w) that a picture of ``size`` (width, height) gets: pictures of one grid share a batch."""
        return self._grid(size, self.backbone.patch_size)

    def embed_images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pooled image embeddings [B, E] float32 (not normalised) of pictures that share one grid, see ``grid``."""
        tokens = self._encode_now(list(pictures))
        block = forward_last_block(self.backbone, tokens.last_input)
        return pool_embedding(self.backbone, block.out, self.config.pool)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _default_classes(self, tags: Iterable[Sequence[str]] | None) -> Any:
        if self.backbone.known_classes:
            return list(self.backbone.known_classes)
        named = sorted({tag for image in tags or () for tag in image})
        if not named:
            raise ValueError(
                "no classes were given; pass classes='cat; person, people' or a class file, or tags=['cat'] for "
                "pictures whose classes are known"
            )
        return named

    def _by_tag(self, pictures: Sequence[Image.Image], labels: Sequence[str]) -> list[Segmentation]:
        """The weak setting with one tag a picture, for supports without a mask."""
        pairs = zip(pictures, labels, strict=True)
        return [cast(Segmentation, self(picture, classes=[label], tags=[label])) for picture, label in pairs]

    def _segment(
        self,
        pictures: list[Image.Image],
        vocabulary: Vocabulary,
        tags: list[list[int]] | None,
        marks: list[Constraints] | None = None,
        examples: Examples | None = None,
    ) -> list[Segmentation]:
        text = None if examples is not None else self._embed(vocabulary)
        if text is not None and self.config.decision == "words":
            decided = [
                decide_words(
                    self.backbone,
                    picture,
                    text,
                    self.config,
                    None if tags is None else tags[i],
                    None if marks is None else marks[i].to(text.owner.device),
                )
                for i, picture in enumerate(pictures)
            ]
        else:
            decided = self._by_maps(pictures, vocabulary, text, tags, marks, examples)
        record = self._record(vocabulary, examples)
        setting = "zero" if tags is None else "weak"
        if examples is not None:
            setting = "weak-few" if examples.matcher.source.predicted else "few"
        return [
            self._result(picture, answer, vocabulary, setting, record, examples)
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
        groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for index, picture in enumerate(pictures):
            groups.setdefault(self._grids(picture.size), []).append(index)
        answers: dict[int, Decision] = {}
        for members in groups.values():
            for start in range(0, len(members), self.config.batch_size):
                batch = members[start : start + self.config.batch_size]
                present = None
                if tags is not None:
                    present = present_mask([tags[i] for i in batch], len(vocabulary.names)).to(device)
                mine = None if marks is None else [marks[i].to(device) for i in batch]
                maps = self._maps([pictures[i] for i in batch], text, present, mine, examples)
                for row, index in enumerate(batch):
                    mark = None if mine is None else mine[row]
                    answers[index] = decide_maps(pictures[index], maps, row, self.config, mark)
        return [answers[i] for i in range(len(pictures))]

    def _maps(
        self, pictures: list[Image.Image], text: TextEmbeddings | None, present: Tensor | None,
        marks: list[Constraints] | None, examples: Examples | None,
    ) -> ClassMaps:  # fmt: skip
        """Maps of one batch of one grid, by names or by examples."""
        if examples is None:
            assert text is not None
            return class_maps(self.backbone, self._encode(pictures), text, self.config, present, marks)
        return example_maps(self._query(pictures, examples), examples, self.config, present, marks)

    def _query(self, pictures: list[Image.Image], examples: Examples) -> Query:
        """Tokens of CLIP where it is needed, and of the feature model where there is one."""
        if self.features is None:
            tokens = self._encode(pictures)
            return Query(self.backbone, tokens, self.backbone, tokens)
        clip = None if examples.text is None and examples.known is None else self._encode(pictures)
        pixels = self._pixels(pictures, self.features)
        blocks = self.config.attention_blocks if self.config.affinity else 0
        layers = layers_needed(self.config.fewshot.kinds)
        tokens = self.features.encode(pixels, attention_blocks=blocks, keep_layers=layers)
        return Query(self.backbone, clip, self.features, tokens)

    def _grids(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Patch grids of every model that sees the picture."""
        patches = [model.patch_size for model in (self.backbone, self.features) if model is not None]
        return tuple(self._grid(size, p) for p in patches)

    def _known(self) -> TextEmbeddings | None:
        """Other known words that take their own pixels from examples (BAM)."""
        words = self.config.fewshot.known
        return None if words is None else self._embed(self.vocabulary(words))

    def _embed(self, vocabulary: Vocabulary) -> TextEmbeddings:
        if vocabulary not in self._texts:
            text = embed_vocabulary(vocabulary, self.backbone.encode_text, weights_key=self.backbone.weights_sha256)
            device = self.backbone.device
            self._texts[vocabulary] = replace(text, vectors=text.vectors.to(device), owner=text.owner.to(device))
        return self._texts[vocabulary]

    def _encode(self, pictures: list[Image.Image]) -> Tokens:
        """Tokens of pictures of one grid; those already in the cache are not encoded again."""
        if not self.config.cache_tokens:
            return self._encode_now(pictures)
        keys = [self._key(picture) for picture in pictures]
        return self._tokens.fetch(
            keys, lambda missing: self._encode_now([pictures[i] for i in missing]), self.config.cache_tokens
        )

    def _encode_now(self, pictures: list[Image.Image]) -> Tokens:
        pixels = self._pixels(pictures, self.backbone)
        layers = layers_needed(self.config.fewshot.kinds)
        return self.backbone.encode(pixels, attention_blocks=self.config.attention_blocks, keep_layers=layers)

    def _pixels(self, pictures: list[Image.Image], backbone: OpenClipBackbone | FeatureBackbone) -> Tensor:
        """[B, 3, H, W] for one of the models, from pictures of one grid."""
        config = self.config
        return torch.stack([
            to_pixels(picture, patch_size=backbone.patch_size, mean=backbone.mean, std=backbone.std,
                      short_side=config.short_side, long_side=config.long_side, max_patches=config.max_patches)
            for picture in pictures
        ])  # fmt: skip

    def _grid(self, size: tuple[int, int], p: int) -> tuple[int, int]:
        config = self.config
        height, width = target_size(*size, p, config.short_side, config.long_side, config.max_patches)
        return height // p, width // p

    def _key(self, picture: Image.Image) -> tuple:
        digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        config = self.config
        sizes = (picture.size, config.short_side, config.long_side, config.max_patches)
        return (digest, *sizes, config.position_interpolation, config.attention_blocks, config.fewshot.kinds)

    def _result(
        self, picture: Image.Image, answer: Decision, vocabulary: Vocabulary, setting: str, record: dict[str, Any],
        examples: Examples | None,
    ) -> Segmentation:  # fmt: skip
        names = vocabulary.names
        dtype = np.uint8 if len(names) < 255 else np.int32
        return Segmentation(
            labels=answer.labels.cpu().numpy().astype(dtype),
            names=names,
            scores=dict(zip(names, answer.scores.tolist(), strict=True)),
            confidence=answer.confidence.float().cpu().numpy(),
            setting=setting,
            config=record,
            image=picture,
            extras=self._extras(answer, examples),
        )

    def _extras(self, answer: Decision, examples: Examples | None) -> dict[str, Any]:
        extras: dict[str, Any] = {"maps": answer.maps().cpu().numpy()} if self.config.keep_maps else {}
        if examples is not None and answer.support_iou is not None:
            extras["supports"] = list(zip(examples.matcher.supports, answer.support_iou.tolist(), strict=True))
        return extras

    def _record(self, vocabulary: Vocabulary, examples: Examples | None = None) -> dict[str, Any]:
        """The resolved configuration that is saved with a result."""
        return self.config.as_dict() | {
            "model": self.backbone.name,
            "weights_sha256": self.backbone.weights_sha256,
            "logit_scale": self.config.logit_scale or self.backbone.logit_scale,
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            "features": None if self.features is None else self.features.name,
            "features_sha256": None if self.features is None else self.features.weights_sha256,
            "vocabulary": asdict(vocabulary),
            "supports": None if examples is None else examples.matcher.source.shots(),
            "clipseg_ws": __version__,
        }
