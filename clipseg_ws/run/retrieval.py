"""Names with the nearest of very many examples: retrieved for every picture anew (retrieve and segment).

The names alone find which classes are there; for each of these the examples of a gallery that look most like the whole
picture are encoded and answer with the name. How much a name counts beside them is decided on them
(``fewshot.calibration``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from clipseg_ws.fewshot.gallery import Gallery, named
from clipseg_ws.fewshot.signature import detectors, fit_signature, gathered, strengths
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.structures import Support

DETECTORS, WIDTH = 12, 256
LEARNED = 2048  # pictures, evenly taken, that the whitening is learned from


def build_gallery(segmenter: Segmenter, supports: Sequence[Support]) -> Gallery:
    """A gallery of examples that are files.

    Every picture is encoded once to see which channels differ, and what is gathered by them is kept in half precision
    until the whitening is known.

    Raises:
        BankError: an example without a label or that is no file. ValueError: fewer than two; a picture that cannot be
            read.

    Example:
        >>> gallery = build_gallery(segment, read_support_dir("examples/"))
    """
    given = named(supports)
    if len(given) < 2:
        raise ValueError(f"{len(given)} pictures; a gallery needs at least two")
    step = -(-len(given) // LEARNED)
    first = torch.cat([strengths(features) for features in _features(segmenter, given[::step])])
    channels = detectors(first, DETECTORS)
    joined = torch.cat([gathered(features, channels).half() for features in _features(segmenter, given)])
    signature = fit_signature(joined[::step].float(), channels, WIDTH)
    moved = [(part.float() - signature.centre) @ signature.axes for part in torch.split(joined, 4096)]
    vectors = torch.nn.functional.normalize(torch.cat(moved), dim=-1).half()
    return Gallery(vectors, tuple(given), signature, segmenter.backbone.name, segmenter.backbone.weights_sha256)


def segment_retrieved(segmenter: Segmenter, gallery: Gallery, picture: Any, classes: Any, count: int) -> Segmentation:
    """The picture by names and the ``count`` nearest examples of each class that the names find.

    A class of which the gallery has none is answered by its name alone, a picture without any by the names alone.

    Raises:
        BankError: a gallery of other weights. ValueError: ``count`` below 1; what the call itself raises.

    Example:
        >>> result = segment_retrieved(segment, gallery, "photo.jpg", "cat; dog", 5)
    """
    if count < 1:
        raise ValueError(f"count={count}; at least one example is needed, for example 5")
    gallery.check(segmenter.backbone)
    ready = segmenter.prepare(picture)
    first = segmenter.ask(classes)
    alone = segmenter.answer(first, [ready])[0]
    there = alone.names if alone.present is None else alone.present
    (features,) = _of_pictures(segmenter, [[ready]])
    query = gallery.signature(features)[0]
    places = [first.vocabulary.names.index(name) for name in there]
    chosen = [one for place in places for one in gallery.nearest(query, place, first.vocabulary, count)]
    if not chosen:
        return alone
    return segmenter.answer(segmenter.ask(classes, supports=chosen), [ready])[0]


def _features(segmenter: Segmenter, supports: Sequence[Support]) -> Iterable[Tensor]:
    """[1, E, h, w] patch embeddings of every picture."""
    bar = tqdm(supports, unit="img", desc="gallery", disable=None)
    return _of_pictures(segmenter, ([segmenter.prepare(support.image)] for support in bar))


def _of_pictures(segmenter: Segmenter, batches: Iterable[Sequence[Any]]) -> Iterable[Tensor]:
    embed: Callable[[Sequence[Any]], Tensor] = segmenter.embed_patches
    return (embed(pictures).permute(0, 3, 1, 2) for pictures in batches)
