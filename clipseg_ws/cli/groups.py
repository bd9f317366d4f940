"""Options that go together, each with its one default: a command takes a whole group as one parameter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import typer

from clipseg_ws.backbones import choose_model
from clipseg_ws.cli.options import (
    Background,
    Bank,
    BatchSize,
    Classes,
    Device,
    Dtype,
    Features,
    Labeller,
    MarksOption,
    Method,
    Model,
    Offline,
    Refine,
    Regions,
    Setting,
    SupportDir,
    Supports,
    TagsOption,
    WeakSupports,
)  # fmt: skip
from clipseg_ws.config import parse_settings

if TYPE_CHECKING:
    from clipseg_ws.segmenter import Segmenter


@dataclass(frozen=True)
class ModelOptions:
    """Which weights, where."""

    model: Model = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    offline: Offline = False
    settings: Setting = None

    def named(self) -> Self:
        """With a model in any case; one that nobody named is said on stderr."""
        return self if self.model is not None else replace(self, model=choose_model(partial(typer.echo, err=True)))

    def segmenter(self, **config: Any) -> Segmenter:
        """A Segmenter of these options; None means "not given". A model that nobody named is said on stderr."""
        from clipseg_ws.segmenter import Segmenter

        given = {key: value for key, value in config.items() if value is not None} | parse_settings(self.settings)
        model = self if given.get("head") is not None else self.named()  # a head names the model that it belongs to
        return Segmenter(model.model, device=self.device, dtype=self.dtype, offline=self.offline, **given)


@dataclass(frozen=True)
class MethodOptions(ModelOptions):
    """Which weights and what is done with them."""

    method: Method = "default"
    refine: Refine = None
    regions: Regions = None
    labeller: Labeller = None
    features: Features = None
    batch_size: BatchSize = 8

    def segmenter(self, **config: Any) -> Segmenter:
        """See ``ModelOptions``; ``config`` has the last word but for --set."""
        return super().segmenter(**{"method": self.method, "features": self.features} | self.own | config)

    @property
    def own(self) -> dict[str, Any]:
        """The settings that have an option of their own and were given."""
        own = {
            "refine": self.refine, "regions": self.regions, "labeller": self.labeller, "batch_size": self.batch_size,
        }  # fmt: skip
        return {key: value for key, value in own.items() if value is not None}

    @property
    def usual(self) -> bool:
        """Whether neither a setting nor a second model is given, nor a device or number format that may not be here."""
        here = self.device in ("auto", "cpu") and self.dtype in ("auto", "float32", "bfloat16")
        return here and not self.settings and self.features is None


@dataclass(frozen=True)
class NameOptions:
    """What is looked for by name."""

    classes: Classes = None
    background: Background = None


@dataclass(frozen=True)
class WeakOptions:
    """What is known of each picture."""

    tags: TagsOption = None
    marks: MarksOption = None

    @property
    def given(self) -> bool:
        """Whether anything is known."""
        return self.tags is not None or bool(self.marks)


@dataclass(frozen=True)
class ExampleOptions:
    """What is looked for by example."""

    support: Supports = None
    support_dir: SupportDir = None
    weak_supports: WeakSupports = False
    bank: Bank = None
