"""The frozen dataclasses that every layer shares, and the glossary of shapes.

Letters used in all docstrings: B images, H x W pixels, p patch size, h x w = H/p x W/p patches, N = h*w, D token
width, E embedding width, T texts, C classes, K maps, S supports. Tensors are batch first; patches run row by row.

Labels: 0 is background, class ``names[i]`` has label ``i + 1``, 255 is "ignored" (never a class).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch, numpy and PIL are not needed to describe the shapes
    import numpy as np
    import torch
    from PIL import Image

IGNORE = 255


def word_key(word: str) -> str:
    """What all spellings of a word share: Unicode NFC, single spaces, letter case folded."""
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", word).split()).casefold())


@dataclass(frozen=True, eq=False)
class LastAttention:
    """The last block up to its attention, kept so that nobody computes it twice; L = 1 + N, class token first.

    Attributes:
        a: [B, L, D] output of ``ln_1``. q, k, v: [B, heads, L, d]. probs: [B, heads, L, L] softmax attention.
        context: [B, heads, L, d] = probs @ v.
    """

    a: torch.Tensor
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    probs: torch.Tensor
    context: torch.Tensor


@dataclass(frozen=True, eq=False)
class Tokens:
    """What one forward pass of a frozen backbone leaves behind.

    Attributes:
        last_input: [B, 1+N, D] residual stream entering the last block; class token first.
        attention: [B, N, N] softmax attention, mean over heads and over the last k blocks (the last one included),
            class token's row and column dropped, not renormalised; None where it was not asked for.
        layers: block index -> [B, N, D] patch tokens that leave that block.
        grid: (h, w) patches.
        last: the last block's attention where it was computed on the way; None: compute it from ``last_input``.
    """

    last_input: torch.Tensor
    attention: torch.Tensor | None
    layers: Mapping[int, torch.Tensor]
    grid: tuple[int, int]
    last: LastAttention | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What a step on the patch grid may look at besides the maps [B, K, h, w].

    Attributes:
        tokens: of the B images. classes: [B, K] int64, the vocabulary index of every map, -1 for padding.
        depth: blocks of the backbone whose ``layers`` were kept; 0: none were.
        graph: [B, N, N] non-negative, how much patches have to do with one another; None: no step asked for it.
        dense: [B, K, h, w] in [0, 1], what the patches themselves say; None where no dense maps were made.
        regions: a ``RegionSet`` of each image; None where nothing reads any.
    """

    tokens: Tokens
    classes: torch.Tensor
    depth: int = 0
    graph: torch.Tensor | None = None
    dense: torch.Tensor | None = None
    regions: Sequence[Any] | None = None


@dataclass(frozen=True)
class Vocabulary:
    """Class names with synonyms, background words and prompt templates: text only, no embeddings.

    Attributes:
        names: C display names; label i+1 belongs to ``names[i]``.
        synonyms: for each class the words that stand for it, at least one (by default the name itself).
        background: words that compete as background, () for none; None: nobody said (``Segmenter.ask`` then decides).
        templates: prompt templates, each with exactly one ``{}``.
        fusion: "string" joins the synonyms inside one prompt (CLIP-ES), "max" encodes each synonym on its own and
            takes the maximum of their scores.
        prompts: for each class the prompts of its own in place of ``templates``, with one ``{}`` or none (whole
            descriptions); an empty tuple: the templates. Empty: no class has any.
    """

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    background: tuple[str, ...] | None = None
    templates: tuple[str, ...] = ("a clean origami {}.",)
    fusion: str = "string"
    prompts: tuple[tuple[str, ...], ...] = ()

    def index(self) -> dict[str, int]:
        """``word_key`` of every name and synonym -> index of its class; a name goes before another class's synonym.

        ``text.matching.find_class`` looks a word of the user up in it.
        """
        index = {word_key(word): i for i, words in enumerate(self.synonyms) for word in words}
        return index | {word_key(name): i for i, name in enumerate(self.names)}

    def templates_of(self, index: int) -> tuple[str, ...]:
        """Prompts of class ``index``, of the background words for -1."""
        own = self.prompts[index] if self.prompts and index >= 0 else ()
        return own or self.templates


@dataclass(frozen=True, eq=False)
class TextEmbeddings:
    """A vocabulary after the text tower.

    Attributes:
        vectors: [T, E] float32 unit vectors: all class words first (class by class), then the background words.
        owner: [T] int64; ``owner[t]`` is the class index (0-based, into ``vocabulary.names``) of word t, -1 for
            background.
        vocabulary: what was encoded.
    """

    vectors: torch.Tensor
    owner: torch.Tensor
    vocabulary: Vocabulary


@dataclass(frozen=True, eq=False)
class Support:
    """One example picture. ``mask`` [H, W]: non-zero (and not 255) is the object; None for weak-few (tag only)."""

    image: Any
    mask: Any = None
    label: str | None = None


@dataclass(frozen=True, eq=False)
class WeakLabels:
    """Marks of one image, in pixels of the original (EXIF-rotated) picture, x to the right, y down.

    Attributes:
        tags: names of the classes that are present (None: not known).
        boxes: (name, x0, y0, x1, y1), ends exclusive.
        points: (name, x, y); the name "background" marks background.
        scribbles: [H, W] uint8 label map (0 = background stroke, i+1 = class i, 255 = unmarked), or None.
    """

    tags: tuple[str, ...] | None = None
    boxes: tuple[tuple[str, float, float, float, float], ...] = ()
    points: tuple[tuple[str, float, float], ...] = ()
    scribbles: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """What was decided for one image; users get it as ``output.segmentation.Segmentation``, which draws and saves it.

    Attributes:
        labels: [H, W] uint8 (int32 from 255 classes on) at the original size; 0 background, i+1 = ``names[i]``.
        names: the classes that could be answered.
        scores: name -> image-level score in [0, 1] (presence; in the weak setting the share of a class's evidence).
        confidence: [H, W] float32 in [0, 1], probability of the chosen label.
        setting: "zero", "weak", "few", "few+text" or "weak-few".
        config: the resolved configuration that made it, JSON-able.
        source: where the picture came from, None for arrays.
        image: the picture as it was segmented (EXIF applied), kept for the overlay; None where it was dropped.
        extras: further maps by name (e.g. "maps" [C, H, W]), empty by default.
        present: the names that were let into the picture before a pixel was decided; None where all were.
        name: of its files without suffix, distinct within the batch that it was answered in; None: of the source.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    scores: Mapping[str, float]
    confidence: np.ndarray
    setting: str = "zero"
    config: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    image: Image.Image | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    present: tuple[str, ...] | None = None
    name: str | None = None

    def mask(self, name: str) -> np.ndarray:
        """[H, W] bool mask of one class, or of ``"background"``. Raises KeyError for a name that was not asked for."""
        ground = name == "background" and name not in self.names
        if not ground and name not in self.names:
            raise KeyError(f"class {name!r} was not asked for; names are {', '.join(self.names)}")
        mask: np.ndarray = self.labels == (0 if ground else self.names.index(name) + 1)
        return mask

    def shares(self) -> dict[str, float]:
        """Share of the picture's pixels in [0, 1] for the background and every class, in label order."""
        size = self.labels.size
        shares = {"background": float((self.labels == 0).sum()) / size}
        return shares | {n: float((self.labels == i + 1).sum()) / size for i, n in enumerate(self.names)}

    def presence(self) -> dict[str, dict[str, Any]]:
        """For every name its score, whether it counts as present, and why: {"score", "present", "why"}."""
        shares, limit = self.shares(), self.config.get("presence_threshold")
        report = {}
        for name in self.names:
            share, score = shares[name], float(self.scores.get(name, 0.0))
            if self.present is None:
                here, why = share > 0, "every name was let in; " + ("wins pixels" if share else "wins no pixel")
            elif self.setting == "zero":
                here = name in self.present
                why = f"score {score:.3f} {'reaches' if here else 'is below'} the threshold {limit}"
                why += "" if share or not here else ", but it wins no pixel"
            else:
                here, why = name in self.present, "given" if name in self.present else "not among what was given"
            report[name] = {"score": score, "present": here, "why": why}
        return report
