"""``Segmenter``: the one place that composes vocabulary, backbone, activations, refinement and decision."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipseg_ws import __version__
from clipseg_ws.activations.last_block import forward_last_block, pool_embedding
from clipseg_ws.backbones import load_backbone
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import PRESETS, Config, resolve
from clipseg_ws.decide import label, spread_labels, with_background
from clipseg_ws.images import resize_maps, target_size, to_image, to_pixels
from clipseg_ws.prompt_lists import load_background
from clipseg_ws.stages import ClassMaps, class_maps
from clipseg_ws.structures import Segmentation, TextEmbeddings, Tokens, Vocabulary
from clipseg_ws.text_embeddings import embed_vocabulary
from clipseg_ws.vocabulary import parse_classes

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
        backbone: OpenClipBackbone | None = None,
        **config: Any,
    ) -> None:
        resolve(method, config)  # a misspelt setting should not cost the loading of a model
        backbone = load_backbone(model, device=device, dtype=dtype, offline=offline) if backbone is None else backbone
        self._given = dict(config)
        self.config = resolve(method, config, backbone.recommended)
        self.backbone = backbone.with_positions(self.config.position_interpolation)
        self._texts: dict[Vocabulary, TextEmbeddings] = {}
        self._tokens: OrderedDict[tuple, Tokens] = OrderedDict()

    def variant(self, method: str | None = None, **config: Any) -> Segmenter:
        """Another method or setting on the same weights; text embeddings and cached tokens are shared."""
        twin = object.__new__(Segmenter)
        twin._given = (self._given if method is None else {}) | config
        twin.config = resolve(method or self.config.method, twin._given, self.backbone.recommended)
        twin.backbone = self.backbone.with_positions(twin.config.position_interpolation)
        twin._texts, twin._tokens = self._texts, self._tokens
        return twin

    def __call__(
        self,
        images: Any,
        *,
        classes: Any = None,
        background: str | Sequence[str] | None = None,
        tags: Sequence[Any] | None = None,
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

        Returns:
            One ``Segmentation`` for one picture, a list for a list.

        Raises:
            ValueError: no classes, unknown tags, tags that do not fit the pictures, a picture that cannot be read.
        """
        single = not isinstance(images, (list, tuple))
        pictures = [to_image(image) for image in ([images] if single else images)]
        per_image = _per_image_tags(tags, len(pictures), single)
        vocabulary = self.vocabulary(classes, background, per_image)
        results = self._segment(pictures, vocabulary, _tag_indices(per_image, vocabulary))
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

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (h, w) that a picture of ``size`` (width, height) gets: pictures of one grid share a batch."""
        p = self.backbone.patch_size
        height, width = target_size(*size, p, self.config.short_side, None, self.config.max_patches)
        return height // p, width // p

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

    def _segment(
        self, pictures: list[Image.Image], vocabulary: Vocabulary, tags: list[list[int]] | None
    ) -> list[Segmentation]:
        """Group the pictures by grid, run batch by batch, and put the answers back in order."""
        text = self._embed(vocabulary)
        groups: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(pictures):
            groups.setdefault(self.grid(picture.size), []).append(index)
        results: dict[int, Segmentation] = {}
        for members in groups.values():
            for start in range(0, len(members), self.config.batch_size):
                batch = members[start : start + self.config.batch_size]
                tokens = self._encode([pictures[i] for i in batch])
                present = None if tags is None else _present_mask([tags[i] for i in batch], len(vocabulary.names))
                maps = class_maps(self.backbone, tokens, text, self.config, present)
                for row, index in enumerate(batch):
                    results[index] = self._decide(pictures[index], maps, row, vocabulary, tags is not None)
        return [results[i] for i in range(len(pictures))]

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
        missing = [i for i, key in enumerate(keys) if key not in self._tokens]
        if missing:
            fresh = self._encode_now([pictures[i] for i in missing])
            for row, i in enumerate(missing):
                self._tokens[keys[i]] = _row(fresh, row)
        parts = [self._tokens[key] for key in keys]
        for key in keys:
            self._tokens.move_to_end(key)
        while len(self._tokens) > max(self.config.cache_tokens, len(keys)):
            self._tokens.popitem(last=False)
        return _join(parts)

    def _encode_now(self, pictures: list[Image.Image]) -> Tokens:
        backbone, config = self.backbone, self.config
        pixels = torch.stack([
            to_pixels(picture, patch_size=backbone.patch_size, mean=backbone.mean, std=backbone.std,
                      short_side=config.short_side, max_patches=config.max_patches)
            for picture in pictures
        ])  # fmt: skip
        return backbone.encode(pixels, attention_blocks=config.attention_blocks)

    def _key(self, picture: Image.Image) -> tuple:
        digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        config = self.config
        sizes = (picture.size, config.short_side, config.max_patches)
        return (digest, *sizes, config.position_interpolation, config.attention_blocks)

    def _decide(
        self, picture: Image.Image, maps: ClassMaps, row: int, vocabulary: Vocabulary, weak: bool
    ) -> Segmentation:
        """One picture's maps at its original size -> labels, confidence, scores."""
        config = self.config
        size = (picture.height, picture.width)
        classes = maps.classes[row]
        kept = resize_maps(maps.maps[row : row + 1, : len(classes)].float(), size)
        other = maps.background
        background = None if other is None else resize_maps(other[row : row + 1, None].float(), size)[:, 0]
        scores = with_background(
            kept, config.background_rule, alpha=config.alpha, threshold=config.background_threshold,
            background=background,
        )  # fmt: skip
        labels, confidence = label(scores, min_area=config.min_area)
        labels = spread_labels(labels[0], torch.tensor(classes, dtype=torch.int64, device=labels.device))
        dtype = np.uint8 if len(vocabulary.names) < 255 else np.int32
        extras: dict[str, Any] = {}
        if config.keep_maps:
            full = torch.zeros(len(vocabulary.names), *size)
            full[classes] = kept[0].cpu()
            extras["maps"] = full.numpy()
        return Segmentation(
            labels=labels.cpu().numpy().astype(dtype),
            names=vocabulary.names,
            scores=dict(zip(vocabulary.names, maps.scores[row].tolist(), strict=True)),
            confidence=confidence[0].cpu().numpy(),
            setting="weak" if weak else "zero",
            config=self._record(vocabulary),
            image=picture,
            extras=extras,
        )

    def _record(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """The resolved configuration that is saved with a result."""
        return self.config.as_dict() | {
            "model": self.backbone.name,
            "weights_sha256": self.backbone.weights_sha256,
            "logit_scale": self.config.logit_scale or self.backbone.logit_scale,
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            "vocabulary": asdict(vocabulary),
            "clipseg_ws": __version__,
        }


def _per_image_tags(tags: Sequence[Any] | None, count: int, single: bool) -> list[list[str]] | None:
    """Tags as one list of names per picture; a flat list belongs to a single picture."""
    if tags is None:
        return None
    if isinstance(tags, str):
        raise ValueError(f"tags={tags!r} is one string; a list of names is needed, for example tags=['cat', 'sofa']")
    per_image = [list(tags)] if single and all(isinstance(t, str) for t in tags) else [list(t) for t in tags]
    if any(isinstance(t, str) for t in tags) and not single:
        raise ValueError(f"tags={list(tags)!r}: {count} pictures need a list of lists, for example [['cat'], ['dog']]")
    if len(per_image) != count:
        raise ValueError(f"{len(per_image)} tag lists for {count} pictures; one list per picture is needed")
    return per_image


def _tag_indices(tags: list[list[str]] | None, vocabulary: Vocabulary) -> list[list[int]] | None:
    """Names (or synonyms) of tags -> vocabulary indices, each once. Raises ValueError for an unknown tag."""
    if tags is None:
        return None
    index = {w.lower(): i for i, words in enumerate(vocabulary.synonyms) for w in words}
    index |= {name.lower(): i for i, name in enumerate(vocabulary.names)}
    for tag in {t for image in tags for t in image}:
        if tag.lower() not in index:
            raise ValueError(f"tag {tag!r} is no class; known: {', '.join(vocabulary.names)}")
    return [sorted({index[t.lower()] for t in image}) for image in tags]


def _present_mask(indices: list[list[int]], count: int) -> Tensor:
    """[B, C] bool."""
    mask = torch.zeros(len(indices), count, dtype=torch.bool)
    for row, members in enumerate(indices):
        mask[row, members] = True
    return mask


def _row(tokens: Tokens, row: int) -> Tokens:
    """One image's tokens, B = 1, in their own memory (a view would keep the whole batch alive)."""
    pick: Callable[[Tensor], Tensor] = lambda t: t[row : row + 1].clone()  # noqa: E731
    attention = None if tokens.attention is None else pick(tokens.attention)
    return Tokens(pick(tokens.last_input), attention, {i: pick(t) for i, t in tokens.layers.items()}, tokens.grid)


def _join(parts: Sequence[Tokens]) -> Tokens:
    """Tokens of single images of one grid -> one batch."""
    first = parts[0]
    attention = None if first.attention is None else torch.cat([p.attention for p in parts if p.attention is not None])
    layers: Mapping[int, Tensor] = {i: torch.cat([p.layers[i] for p in parts]) for i in first.layers}
    return Tokens(torch.cat([p.last_input for p in parts]), attention, layers, first.grid)
