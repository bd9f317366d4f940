"""What a head's training is made of, apart from the training loop's own ``TrainConfig``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipseg_ws.run.training.masks import MaskFolder

SCHEMES = ("plain", "consistency", "rounds", "cotrain", "feedback")
THRESHOLDS = {"crf": 0.95, "none": 0.8}  # by the masks' refiner; CLIP-ES's 0.95 is meant for a CRF's probabilities
OTHER_THRESHOLD = 0.5  # the guided filter's and the like are less sharp


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how; ``TrainConfig`` has the rest.

    Attributes:
        kind, options: of the head. blocks, more_scales: what it reads, see ``FeatureSpec``.
        detail: targets are this many times the grid.
        validation: share of the pictures that are held back for early stop and the choice of weights.
        views: of every picture in the token store, the plain one and augmented ones.
        augment: encode new views at every visit instead of tokens on disk.
        paste: most things of other pictures that are pasted into an augmented view, 0: none (see ``heads.paste``).
        scheme: one of ``SCHEMES``. rounds: of the schemes that have some. sure: probability from which a head's own
            label is believed (rounds, cotrain). add_to: a head's file whose classes are kept (WILSON).
    """

    kind: str = "decoder"
    options: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[int, ...] = (-3, -2, -1)
    more_scales: tuple[float, ...] = ()
    detail: int = 4
    validation: float = 0.1
    views: int = 1
    augment: bool = False
    paste: int = 0
    scheme: str = "plain"
    rounds: int = 2
    sure: float = 0.8
    add_to: str | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme {self.scheme!r} is unknown; choose one of {', '.join(SCHEMES)}, e.g. 'plain'")
        if not 0 <= self.validation < 1 or self.detail < 1 or self.views < 1:
            raise ValueError(
                f"validation={self.validation}, detail={self.detail}, views={self.views}; a share in [0, 1) and whole "
                "numbers of at least 1 are needed, for example 0.1, 4 and 1"
            )
        if self.paste < 0 or (self.paste and self.views == 1 and not self.augment):
            raise ValueError(f"paste={self.paste}; a number from 0 on, above 0 with views=2 or more, or augment")
        if self.scheme == "feedback" and (self.views > 1 or self.augment):
            raise ValueError("the scheme 'feedback' makes masks of whole pictures: views=1, without augment")
        if self.scheme in ("rounds", "cotrain") and self.augment:
            raise ValueError(
                f"the scheme {self.scheme!r} makes masks of views that stay: views=6 in place of augment, for example"
            )
        if self.add_to is not None and self.scheme != "plain":
            raise ValueError(f"add_to goes with the scheme 'plain', got {self.scheme!r}")


def default_threshold(folder: MaskFolder) -> float:
    """The confidence from which a pixel of these masks counts, where the user names none."""
    return THRESHOLDS.get(folder.refine.split("+")[-1], OTHER_THRESHOLD)
