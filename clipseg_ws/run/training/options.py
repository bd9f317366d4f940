"""What a head's training is made of, apart from the training loop's own ``TrainConfig``. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from clipseg_ws.heads import HEADS, SCHEMES
from clipseg_ws.registry import Spec, checked_spec, parse_spec


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how; ``TrainConfig`` has the rest.

    Attributes:
        kind, options: of the head, see ``HEADS``. blocks, more_scales: what it reads, see ``FeatureSpec``.
        detail: targets are this many times the grid.
        validation: share of the pictures that are held back for early stop and the choice of weights.
        views: of every picture in the token store, the plain one and augmented ones.
        augment: encode new views at every visit instead of tokens on disk.
        paste: most things of other pictures that are pasted into an augmented view, 0: none (see ``heads.paste``).
        scheme: a name of ``SCHEMES``, with parameters where they differ: "rounds(rounds=3)".
        add_to: a head's file whose classes are kept; then "plain" means "incremental" (WILSON).
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
    add_to: str | None = None

    def __post_init__(self) -> None:
        checked_spec(Spec(self.kind, tuple(self.options.items())), HEADS, "head")
        if not 0 <= self.validation < 1 or self.detail < 1 or self.views < 1:
            raise ValueError(
                f"validation={self.validation}, detail={self.detail}, views={self.views}; a share in [0, 1) and whole "
                "numbers of at least 1 are needed, for example 0.1, 4 and 1"
            )
        if self.paste < 0 or (self.paste and self.views == 1 and not self.augment):
            raise ValueError(f"paste={self.paste}; a number from 0 on, above 0 with views=2 or more, or augment")
        name, about = self.steps.name, SCHEMES[self.steps.name].about
        if about.get("plain") and (self.views > 1 or self.augment):
            raise ValueError(f"the scheme {name!r} makes masks of whole pictures: views=1, without augment")
        if about.get("stay") and self.augment:
            raise ValueError(
                f"the scheme {name!r} makes masks of views that stay: views=6 in place of augment, for example"
            )
        if (self.add_to is None) == (about.get("reads") == "old"):
            raise ValueError(f"add_to goes with the scheme 'incremental', got {name!r} and add_to={self.add_to!r}")

    @property
    def steps(self) -> Spec:
        """The scheme that is run."""
        spec = parse_spec(self.scheme, SCHEMES, "scheme")
        return Spec("incremental") if spec.name == "plain" and self.add_to is not None else spec

    def as_dict(self) -> dict[str, Any]:
        """All that a training goes on from only where it is equal: where an old head lies does not matter."""
        scheme = Spec(self.steps.name, tuple(self.steps.resolved(SCHEMES).items()))
        return asdict(replace(self, add_to=None, scheme="plain")) | {"scheme": str(scheme)}
