"""From a `Vocabulary` to unit text vectors, with a disk cache, and back from word scores to class scores.

A word's vector: every template filled with the word goes through the text tower to unit length, their mean, unit
length again (CLIP, Radford et al. 2021, arXiv 2103.00020, section 3.1.4). Synonyms are fused either inside the prompt
(CLIP-ES, Lin et al., CVPR 2023, arXiv 2212.09506) or as the maximum over the scores of their own vectors.

A word is encoded once for a tower and its templates: see ``vector_cache.py``. torch is imported on call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_ws.structures import TextEmbeddings, Vocabulary
from clipseg_ws.text.lengths import TooLong, check_lengths, cut_prompts, filled
from clipseg_ws.text.vector_cache import cache_file, one_at_a_time, read_cache, write_cache

if TYPE_CHECKING:
    import torch

PROMPTS = 2048  # so many go to the encoder together
SAVE_SECONDS = 10  # between two writings of the cache
EncodeText = Callable[[list[str]], "torch.Tensor"]


def texts(vocabulary: Vocabulary, too_long: TooLong | None = None) -> tuple[list[str], list[int]]:
    """The T words to encode and their owners: all class words, class by class, then the background words, if said.

    With fusion "string" a class has one word, its synonyms joined by "," ("person with clothes,people,human"); with
    "max", and where the joined ones are ``too_long`` for the text tower, it has one word per synonym. ``owner[t]`` is
    the class index of word t, -1 for background.
    """
    words: list[str] = []
    owner: list[int] = []
    for index, synonyms in enumerate(vocabulary.synonyms):
        joined, templates = ",".join(synonyms), vocabulary.templates_of(index)
        apart = vocabulary.fusion != "string" or bool(too_long and too_long(filled(joined, templates)))
        own = list(synonyms) if apart else [joined]
        words += own
        owner += [index] * len(own)
    background = list(vocabulary.background or ())
    return words + background, owner + [-1] * len(background)


def embed_vocabulary(
    vocabulary: Vocabulary,
    encode_text: EncodeText,
    *,
    weights_key: str | None = None,
    cache_dir: str | Path | None = None,
) -> TextEmbeddings:
    """Encode a vocabulary, reading and filling the disk cache.

    Args:
        vocabulary: what to encode; its background words are settled, () where there are none.
        encode_text: list of L texts -> [L, E] vectors (any device and floating dtype; brought to unit length here).
        weights_key: what identifies the text tower, such as the sha256 of its weights. None: no disk cache.
        cache_dir: folder of the cache files; None: `vector_cache.default_cache_dir()`.

    Returns:
        TextEmbeddings with vectors [T, E] float32 on the CPU, owner [T] int64, rows in the order of `texts`.

    Raises:
        ValueError: ``vocabulary.background`` is None, a prompt that the text tower would cut (names the class), or
            ``encode_text`` gave another shape or values that are not finite.
    """
    import torch

    if vocabulary.background is None:
        raise ValueError(
            "the vocabulary does not say which words compete as background; settle it, for example "
            "parse_classes(classes, background='voc-clip-es') or background=() for none"
        )
    too_long = partial(cut_prompts, encode_text)
    words, owner = texts(vocabulary, too_long)
    check_lengths(vocabulary, words, owner, too_long)
    used = [vocabulary.templates_of(index) for index in owner]
    known = {}
    for templates in dict.fromkeys(used):  # one group, and one cache file, for each list of templates
        needed = [word for word, mine in zip(words, used, strict=True) if mine == templates]
        path = None if weights_key is None else cache_file(weights_key, templates, cache_dir)
        known[templates] = _embedded(list(dict.fromkeys(needed)), templates, encode_text, path)
    vectors = torch.stack([known[templates][word] for word, templates in zip(words, used, strict=True)])
    return TextEmbeddings(vectors=vectors, owner=torch.tensor(owner, dtype=torch.int64), vocabulary=vocabulary)


def _embedded(
    words: list[str], templates: Sequence[str], encode_text: EncodeText, path: Path | None
) -> dict[str, torch.Tensor]:
    """word -> [E] unit vector, from the cache file ``path`` or fresh."""
    known = {} if path is None else read_cache(path, words)
    if all(word in known for word in words):
        return known
    with one_at_a_time(path):
        known = {} if path is None else read_cache(path, words)  # again: another process may have made them meanwhile
        missing = [word for word in words if word not in known]
        if missing:
            fresh = _encode_in_parts(missing, templates, encode_text, path)
            width = next(iter(fresh.values())).shape
            if any(vector.shape != width for vector in known.values()):  # the key did not tell two towers apart
                fresh, known = _encode_in_parts(words, templates, encode_text, path), {}
            known = known | fresh
    return known


def _encode_in_parts(
    words: list[str], templates: Sequence[str], encode_text: EncodeText, path: Path | None
) -> dict[str, torch.Tensor]:
    """``_encode`` with a part of the prompts in memory at a time; what is done is in the cache every few seconds."""
    from tqdm import tqdm

    size = max(1, PROMPTS // len(templates))
    fresh: dict[str, torch.Tensor] = {}
    unsaved: dict[str, torch.Tensor] = {}
    since = time.monotonic()
    with tqdm(total=len(words), desc="names", unit="name", delay=2, disable=None) as bar:
        for start in range(0, len(words), size):
            part = words[start : start + size]
            made = _encode(part, templates, encode_text)
            fresh |= made
            unsaved |= made
            bar.update(len(part))
            last = len(fresh) == len(words)
            if path is not None and (last or time.monotonic() - since > SAVE_SECONDS):
                write_cache(path, unsaved)
                unsaved, since = {}, time.monotonic()
    return fresh


def class_scores(scores: torch.Tensor, owner: torch.Tensor | Sequence[int], num_classes: int) -> torch.Tensor:
    """Scores of words [..., T] to scores of classes [..., C]: maximum over the words of a class.

    Background words (owner -1) are left out. Differentiable; dtype and device are those of ``scores``.
    Raises ValueError if the owners do not fit the scores or a class has no word.
    """
    import torch

    owner = torch.as_tensor(owner, dtype=torch.int64, device=scores.device)
    if owner.shape != scores.shape[-1:]:
        raise ValueError(f"scores {tuple(scores.shape)} need one owner per word, got owners {tuple(owner.shape)}")
    rows = torch.nonzero(owner >= 0).squeeze(1)
    kept = owner[rows]
    if set(kept.tolist()) != set(range(num_classes)):
        raise ValueError(f"the words belong to classes {sorted(set(kept.tolist()))}, expected 0 to {num_classes - 1}")
    words = scores[..., rows]
    classes = words.new_zeros((*words.shape[:-1], num_classes))
    return classes.scatter_reduce(-1, kept.expand_as(words), words, "amax", include_self=False)


def select(embeddings: TextEmbeddings, class_indices: Sequence[int]) -> TextEmbeddings:
    """The rows of some classes, in the order asked for, and all background rows; owners count from 0 again.

    Raises ValueError for an index outside the vocabulary or asked for twice.
    """
    import torch

    vocabulary, indices = embeddings.vocabulary, [int(index) for index in class_indices]
    count = len(vocabulary.names)
    if len(set(indices)) != len(indices) or any(not 0 <= index < count for index in indices):
        raise ValueError(f"class indices {indices} must be different and between 0 and {count - 1}")
    owner = embeddings.owner.tolist()
    rows = [row for index in [*indices, -1] for row, own in enumerate(owner) if own == index]
    place = {index: new for new, index in enumerate(indices)} | {-1: -1}
    at = torch.tensor(rows, dtype=torch.int64, device=embeddings.vectors.device)
    return TextEmbeddings(
        vectors=embeddings.vectors[at],
        owner=torch.tensor([place[owner[row]] for row in rows], dtype=torch.int64, device=embeddings.owner.device),
        vocabulary=Vocabulary(
            names=tuple(vocabulary.names[index] for index in indices),
            synonyms=tuple(vocabulary.synonyms[index] for index in indices),
            background=vocabulary.background,
            templates=vocabulary.templates,
            fusion=vocabulary.fusion,
            prompts=tuple(vocabulary.prompts[index] for index in indices) if vocabulary.prompts else (),
        ),
    )


def _encode(words: Sequence[str], templates: Sequence[str], encode_text: EncodeText) -> dict[str, torch.Tensor]:
    """word -> [E] float32 unit vector on the CPU."""
    import torch
    from torch.nn.functional import normalize

    prompts = [prompt for word in words for prompt in filled(word, templates)]
    encoded = encode_text(prompts).detach().to("cpu", torch.float32)
    if encoded.ndim != 2 or len(encoded) != len(prompts) or not torch.isfinite(encoded).all():
        raise ValueError(f"encode_text gave {tuple(encoded.shape)}, expected ({len(prompts)}, E), all finite")
    encoded = torch.unflatten(normalize(encoded, dim=-1), 0, (len(words), len(templates)))  # [W * P, E] -> [W, P, E]
    vectors = normalize(encoded.mean(dim=1), dim=-1)
    return dict(zip(words, vectors.unbind(0), strict=True))
