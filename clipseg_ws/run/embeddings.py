"""Embeddings of many pictures, for choosing prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from clipseg_ws.pictures.sources import Source
from clipseg_ws.run.local import loaded_batches
from clipseg_ws.segmenter import Segmenter


def pooled_embeddings(segmenter: Segmenter, sources: Sequence[Source], *, workers: int = 2) -> tuple[Any, list[Source]]:
    """Image embeddings of many pictures, for choosing prompts: ([M, E] float32 on the CPU, the M sources that could be
    read, in order of batches). Pooled as the configuration says ("patch" or "cls").

    Raises ValueError where no picture could be read.
    """
    return _embedded(segmenter, sources, segmenter.embed_images, workers)


def patch_embeddings(segmenter: Segmenter, sources: Sequence[Source], *, workers: int = 2) -> tuple[Any, list[Source]]:
    """Unit patch embeddings of many pictures: ([M, E] float32 on the CPU, the sources that could be read).

    Raises ValueError where no picture could be read.
    """
    return _embedded(segmenter, sources, lambda pictures: segmenter.embed_patches(pictures).flatten(0, 2), workers)


def _embedded(
    segmenter: Segmenter, sources: Sequence[Source], embed: Callable[..., Any], workers: int
) -> tuple[Any, list[Source]]:
    import torch

    kept: list[Source] = []
    rows = []
    decoded = loaded_batches(sources, segmenter.prepare, lambda *_: None, segmenter.config.batch_size, workers)
    with tqdm(total=len(sources), unit="img", disable=None) as bar:
        for batch in decoded:
            rows.append(embed([picture for _, picture in batch]).cpu())
            kept += [source for source, _ in batch]
            bar.update(len(batch))
    if not kept:
        raise ValueError(f"none of the {len(sources)} pictures could be read")
    return torch.cat(rows), kept
