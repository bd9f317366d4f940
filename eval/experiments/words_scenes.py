"""What the words do on drawn scenes.

``python -m clipseg_ws.eval.experiments.words_scenes -o FOLDER`` writes ``words.csv``.

* background: nano's own words, those of ``--background auto`` and a published list; mIoU.
* experts: per class the templates of lowest entropy on the same pictures, without labels (FLOSS); mIoU.
* presence: which of 100 names are there: the 88 nouns of ``scenes100``, and names made to lie at a given cosine to one
  of the kinds; F1 over all pairs of picture and name.

On the validation scenes: these are choices a user makes, not results of a method.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.metrics import ConfusionMatrix
from clipseg_ws.eval.tables import write_table
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.cache import TokenCache
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.maps import find_present
from clipseg_ws.structures import TextEmbeddings, Vocabulary
from clipseg_ws.text.experts import template_experts
from clipseg_ws.text.lists import load_templates

BACKGROUNDS = (None, "auto", "voc-clip-es")
EXPERTS = (1, 3)  # templates a class
TEMPLATES = "imagenet7"
COSINES = (None, 0.7, 0.8)  # of the made-up names to a kind; None: real nouns
COLUMNS = ("part", "variant", "measure", "value", "n_images")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60, help="validation scenes for mIoU")
    parser.add_argument("--presence", type=int, default=100, help="validation scenes for presence")
    given = parser.parse_args(arguments)
    segmenter = Segmenter("nano", dtype="float32", batch_size=8, cache_mb=1000)
    rows = []
    for row in (*background_rows(segmenter, given.count), *presence_rows(segmenter, given.presence)):
        print("  ".join(str(value) for value in row.values()))
        rows.append(row)
    given.output.mkdir(parents=True, exist_ok=True)
    write_table(given.output / "words.csv", COLUMNS, rows)


def background_rows(segmenter: Segmenter, count: int) -> Iterator[dict[str, Any]]:
    """Background words and template experts, mIoU."""
    data = load_dataset("scenes", split="validation", count=count)
    assert isinstance(data, Dataset)  # no few-shot setting here
    pictures = [Image.fromarray(data.image(name)) for name in data.ids]
    names = list(data.vocabulary.names)

    def row(part: str, variant: str, asked: Segmenter, **question: Any) -> dict[str, Any]:
        matrix = ConfusionMatrix(data.num_classes)
        for name, picture in zip(tqdm(data.ids, desc=variant, disable=None), pictures, strict=True):
            (result,) = asked([picture], **question)
            matrix.update(result.labels, data.truth(name))
        value = round(float(matrix.compute()["mIoU"]), 4)
        return dict(zip(COLUMNS, (part, variant, "mIoU", value, count), strict=True))

    for words in BACKGROUNDS:
        yield row("background", words or "nano's own", segmenter, classes=names, background=words)
    patches = torch.cat([segmenter.embed_patches([picture]).flatten(0, 2) for picture in pictures])
    plain = segmenter.vocabulary(names)
    yield row("experts", f"all of {TEMPLATES}", segmenter.variant(templates=TEMPLATES), classes=names)
    for top in EXPERTS:
        chosen = template_experts(
            patches, segmenter.backbone.embed_text, plain, load_templates(TEMPLATES), segmenter.backbone.logit_scale,
            top=top,
        )  # fmt: skip
        yield row("experts", f"{TEMPLATES} --top {top}", segmenter.variant(templates="clip-es"), classes=chosen)


def presence_rows(segmenter: Segmenter, count: int) -> Iterator[dict[str, Any]]:
    """Presence among 100 names, F1."""
    data = load_dataset("scenes100", split="validation", count=count)
    assert isinstance(data, Dataset)
    nouns = segmenter.embed_names(segmenter.vocabulary(data.vocabulary))
    kinds = segmenter.embed_names(segmenter.vocabulary(list(KINDS)))
    encoder = Encoder(segmenter.backbone, None, segmenter.config, TokenCache())
    for cosine in COSINES:
        text = nouns if cosine is None else look_alikes(kinds, len(nouns.vocabulary.names), cosine)
        found, true, right = 0, 0, 0
        for name in tqdm(data.ids, desc="presence", disable=None):
            tokens = encoder.clip(encoder.pixels([encoder.picture(data.image(name))]))
            kept = find_present(segmenter.backbone, tokens, text, segmenter.config, None)[1][0]
            answer = {text.vocabulary.names[i] for i in kept.nonzero().flatten().tolist()}
            present = {data.vocabulary.names[label - 1] for label in set(data.truth(name).flatten().tolist()) if label}
            found, true, right = found + len(answer), true + len(present), right + len(answer & present)
        variant = "12 kinds and 88 nouns" if cosine is None else f"12 kinds and 88 names at cosine {cosine}"
        value = round(2 * right / max(found + true, 1), 4)
        yield dict(zip(COLUMNS, ("presence", variant, "F1", value, count), strict=True))


def look_alikes(kinds: TextEmbeddings, count: int, cosine: float) -> TextEmbeddings:
    """The kinds' names and made-up ones, ``count`` in all: each at ``cosine`` to a kind drawn by chance (seed 5)."""
    generator = torch.Generator().manual_seed(5)
    own, ground = kinds.vectors[kinds.owner >= 0], kinds.vectors[kinds.owner < 0]
    more = count - len(own)
    near = own[torch.randint(len(own), (more,), generator=generator)]
    across = torch.randn(near.shape, generator=generator)
    across = F.normalize(across - (across * near).sum(1, keepdim=True) * near, dim=1)
    made: Tensor = cosine * near + (1 - cosine**2) ** 0.5 * across
    names = (*kinds.vocabulary.names, *(f"made up {i}" for i in range(more)))
    vocabulary: Vocabulary = replace(kinds.vocabulary, names=names, synonyms=tuple((name,) for name in names))
    owner = torch.cat([torch.arange(count), torch.full((len(ground),), -1)])
    return TextEmbeddings(torch.cat([own, made, ground]), owner, vocabulary)


if __name__ == "__main__":
    main()
