"""Maps of one batch: by names or by examples, from as many looks at the pictures as the configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.examples import Examples, Query, example_maps
from clipseg_ws.stages.looks import all_looks, mirrored_marks, scaled
from clipseg_ws.stages.maps import ClassMaps, class_maps
from clipseg_ws.structures import TextEmbeddings
from clipseg_ws.weak.constraints import Constraints


def picture_maps(
    encoder: Encoder,
    pictures: Sequence[Image.Image],
    text: TextEmbeddings | None,
    present: Tensor | None,
    marks: Sequence[Constraints] | None,
    examples: Examples | None,
) -> ClassMaps:
    """Class maps of pictures that share their grids.

    Args:
        text: the embedded vocabulary; may be None where there are ``examples``, which bring their own.
        present: [B, C] bool, the known classes; None: decided by presence. marks: weak labels of each picture.
    """
    backbone, config = encoder.backbone, encoder.config
    grid = encoder.grid(pictures[0].size)

    def look(scale: float, mirrored: bool, known: Tensor | None) -> ClassMaps:
        seen = [scaled(picture, grid, backbone.patch_size, scale, mirrored) for picture in pictures]
        turned = mirrored_marks(marks) if mirrored else marks
        whole = scale == 1.0
        if examples is not None:
            return example_maps(_query(encoder, seen, examples, whole), examples, config, known, turned)
        assert text is not None
        tokens, proxy = encoder.clip(seen, whole), encoder.proxy(seen, whole)
        return class_maps(backbone, tokens, text, config, known, turned, proxy)

    return all_looks(look, present, config)


def _query(encoder: Encoder, pictures: Sequence[Image.Image], examples: Examples, resize: bool) -> Query:
    """Tokens of CLIP where it is needed, and of the second model where there is one."""
    if encoder.features is None:
        tokens = encoder.clip(pictures, resize)
        return Query(encoder.backbone, tokens, encoder.backbone, tokens)
    worded = examples.text is not None or examples.known is not None
    clip, proxy = (encoder.clip(pictures, resize), encoder.proxy(pictures, resize)) if worded else (None, None)
    return Query(encoder.backbone, clip, encoder.features, encoder.second(pictures, resize), proxy)
