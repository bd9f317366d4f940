"""Sharpness-based prompt selection: which template suits pictures with several classes.

After CLIP-ES (Lin et al., "CLIP is Also an Efficient Segmenter", CVPR 2023, arXiv 2212.09506, section "Sharpness-based
prompt selection"). In a softmax the best class of a picture takes the scores of its other classes away, and their
maps with them; so the template is preferred under which the scores s_i1 ... s_ik of the k classes of image i lie
close together. Like a coefficient of variation, with the variance in place of the standard deviation:

    sharpness(template) = sum_i var(s_i1, ..., s_ik) / sum_i mean(s_i1, ..., s_ik),     lower is better.

The paper leaves open over which texts the softmax runs and which variance is meant; here:

* the candidates of an image are its tags, or all classes of the vocabulary where it has none. Given tags are the
  paper's case. Without them a template that hardly tells the classes apart also scores low: prefer tags;
* s is the softmax over the words of the candidates and all background words of ``logit_scale`` * cosine, maximum over
  the synonyms of a class: the same probabilities that softmax-GradCAM derives from in the weak setting;
* the variance is the population variance, so an image with one candidate adds nothing above and its score below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.embeddings import EncodeText, class_scores, embed_vocabulary
from clipseg_ws.text.matching import find_class

if TYPE_CHECKING:
    import torch


def sharpness(
    image_embeddings: torch.Tensor,
    text_by_template: Sequence[torch.Tensor],
    logit_scale: float = 100.0,
    *,
    owner: torch.Tensor | Sequence[int] | None = None,
    tags: Sequence[Sequence[int] | None] | None = None,
) -> list[float]:
    """Sharpness of every template (module docstring), 0 or more, lower is better.

    Args:
        image_embeddings: [M, E] image vectors, any length above 0 and any floating dtype.
        text_by_template: for every template the vectors [T, E] of the words: one row a class, in class order, or
            as ``owner`` says.
        logit_scale: the model's scale of the cosine before the softmax (100 for OpenAI's weights).
        owner: [T] class index of every word, -1 for background words; None: word t is class t.
        tags: for every image the indices of its classes; None (for all, or for one image): all classes.

    Raises:
        ValueError: shapes that do not fit, a tag outside the classes, or no image with two candidates or more.
    """
    import torch
    from torch.nn.functional import normalize

    if not len(text_by_template):
        return []
    # small tensors: on the CPU in float64, since the softmax of 100 * cosine reaches far below float32
    images = normalize(image_embeddings.detach().to("cpu", torch.float64), dim=-1)
    width = text_by_template[0].shape[0]
    owners = torch.arange(width) if owner is None else torch.as_tensor(owner, dtype=torch.int64, device="cpu")
    if owners.shape != (width,) or not (owners >= 0).any():
        raise ValueError(f"owner has shape {tuple(owners.shape)} for {width} words; give one per word, some of a class")
    classes = int(owners.max()) + 1
    candidate = _candidates(tags, len(images), classes)  # [M, C] bool
    for words in text_by_template:
        if words.shape != (width, images.shape[1]):
            raise ValueError(f"texts {tuple(words.shape)} do not fit {width} words, images {tuple(images.shape)}")
    unit_texts = [normalize(words.detach().to(images), dim=-1) for words in text_by_template]
    return [_sharpness(logit_scale * images @ words.T, owners, candidate) for words in unit_texts]


def rank_templates(
    image_embeddings: torch.Tensor,
    encode_text: EncodeText,
    vocabulary: Vocabulary,
    templates: Sequence[str],
    logit_scale: float = 100.0,
    *,
    tags: Sequence[Sequence[str] | None] | None = None,
    weights_key: str | None = None,
    cache_dir: str | Path | None = None,
) -> list[tuple[str, float]]:
    """Every template with its sharpness, the best (lowest) first; equal ones keep their order.

    Args:
        image_embeddings: [M, E] image vectors of the pictures to choose for.
        encode_text: list of L texts -> [L, E].
        vocabulary: classes, synonyms and background words; its own templates and its classes' prompts are not used.
        templates: candidates, each used alone, e.g. ``load_templates("clip-es-candidates")``.
        logit_scale: scale of the cosine before the softmax.
        tags: for every image the display names of its classes; None (for all, or for one image): all classes.
        weights_key, cache_dir: the disk cache, see `embed_vocabulary`.

    Raises:
        ValueError: no template, a tag that is no class of the vocabulary, and as `sharpness`.
    """
    if isinstance(templates, str) or not templates:
        raise ValueError('templates: give a list of at least one, for example ["a photo of a {}.", "a origami {}."]')
    indices = None if tags is None else [_tag_indices(names, vocabulary) for names in tags]
    candidates = [replace(vocabulary, templates=(template,), prompts=()) for template in templates]
    cache: dict[str, Any] = {"weights_key": weights_key, "cache_dir": cache_dir}
    embedded = [embed_vocabulary(candidate, encode_text, **cache) for candidate in candidates]
    text = [one.vectors for one in embedded]
    values = sharpness(image_embeddings, text, logit_scale, owner=embedded[0].owner, tags=indices)
    return sorted(zip(templates, values, strict=True), key=lambda pair: pair[1])


def _tag_indices(names: Sequence[str] | None, vocabulary: Vocabulary) -> list[int] | None:
    if names is None:
        return None
    index = vocabulary.index()
    found = [] if isinstance(names, str) else [find_class(index, name) for name in names]
    known = [place for place in found if place is not None]
    if isinstance(names, str) or len(known) < len(found):
        raise ValueError(f"tags {names!r}: give a list of class names; classes are {', '.join(vocabulary.names)}")
    return list(dict.fromkeys(known))


def _candidates(tags: Sequence[Sequence[int] | None] | None, count: int, classes: int) -> torch.Tensor:
    """[M, C] bool: which classes an image may show. Raises ValueError as `sharpness`."""
    import torch

    tags = [None] * count if tags is None else tags
    if len(tags) != count:
        raise ValueError(f"got tags of {len(tags)} images for {count} image embeddings")
    candidate = torch.ones(count, classes, dtype=torch.bool)
    for row, indices in enumerate(tags):
        if indices is None:
            continue
        if not len(indices) or any(not 0 <= index < classes for index in indices):
            raise ValueError(f"tags of image {row} are {list(indices)}; give indices from 0 to {classes - 1}, or None")
        candidate[row] = False
        candidate[row, list(indices)] = True
    if not (candidate.sum(dim=1) >= 2).any():
        raise ValueError("sharpness compares the classes of an image: no image has two candidate classes or more")
    return candidate


def _sharpness(logits: torch.Tensor, owner: torch.Tensor, candidate: torch.Tensor) -> float:
    """The formula for the logits [M, T] of one template, candidates [M, C] bool."""
    import torch

    # [M, C] -> [M, T]: a word competes if its class is a candidate; background words (owner -1) always do
    competes = candidate[:, owner.clamp(min=0)] | (owner < 0)
    scores = logits.masked_fill(~competes, -torch.inf).softmax(dim=-1)
    scores = class_scores(scores, owner, candidate.shape[1])  # [M, C], 0 where not a candidate
    number = candidate.sum(dim=1)
    mean = scores.sum(dim=1) / number
    variance = ((scores - mean[:, None]).square() * candidate).sum(dim=1) / number
    return float(variance.sum() / mean.sum())
