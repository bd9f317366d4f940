"""A gallery: very many examples of which only a vector each is kept, and the files; the nearest are encoded when they
are asked for. One picture costs 2 E bytes, so that 100,000 of them (E = 256) take 50 MB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipseg_ws.fewshot.bank import BankError
from clipseg_ws.fewshot.signature import Signature
from clipseg_ws.files import atomic_write
from clipseg_ws.structures import Support, Vocabulary
from clipseg_ws.text.matching import find_class

FORMAT = "clipseg_ws gallery 1"


@dataclass(frozen=True, eq=False)
class Gallery:
    """M examples by vector.

    Attributes:
        vectors: [M, E] float16 unit vectors. supports: M, of files: picture, mask (None: the label alone is known),
            label. signature: makes the vector of a query. weights_sha256, model: of the backbone.
    """

    vectors: Tensor
    supports: tuple[Support, ...]
    signature: Signature
    model: str
    weights_sha256: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order in which they first occur."""
        return tuple(dict.fromkeys(str(support.label) for support in self.supports))

    def nearest(self, query: Tensor, place: int, vocabulary: Vocabulary, count: int) -> list[Support]:
        """The examples of a class that are most like a query, the nearest first.

        Args:
            query: [E] of ``signature``. place: index of the class in ``vocabulary``. count: how many, at most.
        """
        index = vocabulary.index()
        mine = {label for label in self.labels if find_class(index, label) == place}
        rows = [i for i, support in enumerate(self.supports) if support.label in mine]
        likeness = self.vectors[rows].to(query) @ query
        return [self.supports[rows[i]] for i in likeness.topk(min(count, len(rows))).indices.tolist()]

    def check(self, backbone: Any) -> None:
        """Raise BankError unless ``backbone`` made the vectors."""
        if self.weights_sha256 != backbone.weights_sha256:
            raise BankError(
                f"this gallery was made with other weights: {self.model} ({self.weights_sha256[:12]}…), the model now "
                f"is {backbone.name} ({backbone.weights_sha256[:12]}…); build it again, or load that model"
            )

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file through a temporary name; returns its path. Files are kept as absolute paths."""
        about = {
            "format": FORMAT, "model": self.model, "weights_sha256": self.weights_sha256,
            "supports": [[_file(s.image), None if s.mask is None else _file(s.mask), s.label] for s in self.supports],
        }  # fmt: skip
        tensors = {"vectors": self.vectors, "channels": self.signature.channels, "centre": self.signature.centre,
                   "axes": self.signature.axes}  # fmt: skip
        with atomic_write(path) as temporary:
            kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_file(kept, temporary, metadata={"clipseg_ws": json.dumps(about)})
        return Path(path)


def load_gallery(path: str | Path, device: torch.device | str = "cpu") -> Gallery:
    """Read a saved gallery.

    Raises:
        FileNotFoundError: no such file. BankError: a damaged file, or one that is no gallery.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no gallery at {str(path)!r}; make one with clipseg-ws bank build FOLDER -o {path}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            about = json.loads((file.metadata() or {}).get("clipseg_ws", "{}"))
            if about.get("format") != FORMAT:
                raise BankError(f"{str(path)!r} is no gallery of this version (format {about.get('format')!r})")
            signature = Signature(*(file.get_tensor(key) for key in ("channels", "centre", "axes")))
            vectors = file.get_tensor("vectors")
            supports = tuple(Support(*one) for one in about["supports"])
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BankError(f"{str(path)!r} is damaged or no gallery: {error}") from error
    if len(supports) != len(vectors):
        raise BankError(f"{str(path)!r} is damaged: {len(vectors)} vectors of {len(supports)} examples")
    return Gallery(vectors, supports, signature, about["model"], about["weights_sha256"])


def named(supports: Sequence[Support]) -> list[Support]:
    """The same. Raises BankError for one that has no label or is no file."""
    for support in supports:
        if support.label is None or not isinstance(support.image, (str, Path)):
            what = "has no label" if support.label is None else f"is a {type(support.image).__name__}, no file"
            raise BankError(f"example {support.image!r} {what}; a gallery needs label/picture.jpg + its mask")
    return [replace(support, image=Path(support.image)) for support in supports]


def _file(path: Any) -> str:
    return str(Path(path).absolute())
