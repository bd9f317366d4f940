"""SAM 3 by words: masks of everything that a name means, beside CLIP (``transformers.Sam3Model``).

Carion et al., "SAM 3: Segment Anything with Concepts", arXiv 2511.16719. A name is one prompt; the processor's own
threshold (0.3 of its score) decides which masks count.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.regions.sam_model import read_model, weights_folder

_LOADED: OrderedDict[tuple[str, str], Concepts] = OrderedDict()


@dataclass(frozen=True, eq=False)
class Concepts:
    """A SAM 3 with its processor for pictures and words."""

    model: Any
    processor: Any

    @torch.no_grad()
    def find(self, image: NDArray[np.uint8], name: str, *, threshold: float = 0.3) -> RegionSet:
        """Masks of everything in a picture [H, W, 3] uint8 that a name means, with their scores.

        ``threshold``: least score of a mask that counts.
        """
        size = (image.shape[0], image.shape[1])
        device = next(self.model.parameters()).device
        ready = self.processor(images=np.array(image), text=name, return_tensors="pt").to(device)
        (found,) = self.processor.post_process_instance_segmentation(
            self.model(**ready), threshold=threshold, mask_threshold=0.5, target_sizes=[size]
        )
        scores = found["scores"].float().clamp(0, 1).cpu().numpy()
        return RegionSet.from_masks((mask.cpu().numpy() > 0 for mask in found["masks"]), size, scores)


@dataclass(frozen=True)
class Labeller:
    """SAM 3 as a second opinion: what ``Config.labeller`` names.

    Attributes:
        repo, threshold, weight: as in ``regions.LABELLERS``. device, offline: see ``load_concepts``.
    """

    repo: str
    threshold: float
    weight: float
    device: str = "cpu"
    offline: bool = False

    def __call__(self, image: Image.Image, names: Sequence[str]) -> list[RegionSet]:
        """The masks of every name in an RGB picture."""
        concepts, pixels = load_concepts(self.repo, self.device, self.offline), np.asarray(image.convert("RGB"))
        return [concepts.find(pixels, name, threshold=self.threshold) for name in names]


def concept_maps(found: Sequence[RegionSet], classes: Sequence[int], size: tuple[int, int]) -> Tensor:
    """[K, H, W] float32 in [0, 1] at ``size``: the score of the best mask that holds the pixel, 0 for none.

    Args:
        found: masks of every class of the vocabulary. classes: of the K maps, 0-based; -1 is a map of zeros.
    """
    maps = np.zeros((len(classes), *size), np.float32)
    for row, number in enumerate(classes):
        if number >= 0:
            regions = found[number].resized(size)
            for mask, score in zip(regions.masks(), regions.scores, strict=True):
                maps[row][mask] = np.maximum(maps[row][mask], score)
    return torch.from_numpy(maps)


def load_concepts(repo: str, device: str = "cpu", offline: bool = False) -> Concepts:
    """A SAM 3 of the hub, or of a folder, in float32; the last one is kept.

    Raises:
        UnsupportedBackbone: no SAM 3, or the installed transformers has no such class.
        WeightsNotFound, FileNotFoundError: it is not there and cannot be fetched.
    """
    import transformers

    if (repo, device) not in _LOADED:
        folder = weights_folder(repo, offline, "sam3:facebook/sam3")
        model = read_model(folder, "Sam3Model", f"sam3:{repo}", device).eval()
        try:
            kind: Any = transformers.AutoProcessor
            processor = kind.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise UnsupportedBackbone(f"sam3:{repo}: its processor cannot be read ({str(error)[:200]})") from error
        _LOADED.clear()
        _LOADED[repo, device] = Concepts(model, processor)
    return _LOADED[repo, device]


def fused(scores: Tensor, concepts: Tensor, weight: float = 1.0) -> Tensor:
    """CLIP's scores and a labeller's masks: of each class the higher one; the background gives way to masks.

    Args:
        scores: [1+K, H, W] in [0, 1], background first. concepts: [K, H, W] in [0, 1]. weight: of the masks, [0, 1].

    Returns [1+K, H, W] in [0, 1].
    """
    held = weight * concepts.to(scores)
    background = torch.minimum(scores[:1], 1 - held.amax(0, keepdim=True)) if len(held) else scores[:1]
    return torch.cat([background, torch.maximum(scores[1:], held)])
