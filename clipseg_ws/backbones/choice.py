"""Which model is taken where nobody names one. Nothing is ever fetched for it."""

from __future__ import annotations

from collections.abc import Callable

from clipseg_ws.backbones.families import DEFAULT_MODEL

WITHOUT_DOWNLOAD = "photo"  # comes with the package


def choose_model(say: Callable[[str], None]) -> str:
    """The usual CLIP where its weights are on this machine, else the embedded model that knows photos.

    Args:
        say: gets one line where it is not the usual one: what is taken, and the command that fetches more.

    Returns the model's name, for ``load_backbone``. Touches no network.

    Example:
        >>> choose_model(print)
        'ViT-B-16-quickgelu/openai'
    """
    from clipseg_ws.backbones.tags import cached_tag, resolve_tag

    if cached_tag(resolve_tag(DEFAULT_MODEL)) is not None:
        return DEFAULT_MODEL
    say(
        f"no model was named: {WITHOUT_DOWNLOAD!r} is taken, which came with the package and knows a list of names "
        f"(clipseg-ws list names --model {WITHOUT_DOWNLOAD}); for a CLIP that takes any words, once while online: "
        f"clipseg-ws download {DEFAULT_MODEL}"
    )
    return WITHOUT_DOWNLOAD
