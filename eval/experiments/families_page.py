"""The page ``docs/families.md``: what every method means for every family of models.

``python -m clipseg_ws.eval.experiments.families_page > docs/families.md`` in a checkout. The cells are read off small
random models of the real configurations (``small_models.py``), so the page cannot say what the code does not do.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from clipseg_ws.backbones.families import FEATURE_KINDS, SPEAKERS
from clipseg_ws.backbones.hybrid import STEMS
from clipseg_ws.backbones.last_block import LastBlockWeights
from clipseg_ws.eval.experiments.families import shares
from clipseg_ws.eval.experiments.small_models import HYBRID, small_backbone

TABLE = Path("eval/results/families.csv")  # in a checkout
FAMILIES = {  # family -> (architecture of the small model, a name to load)
    "CLIP, OpenCLIP, DataComp, DFN, MetaCLIP 1 and 2": ("ViT-B-32", "ViT-B-16-quickgelu/openai"),
    "CLIPA": ("ViT-L-14-CLIPA", "ViT-L-14-CLIPA/datacomp1b"),
    "CoCa": ("coca_ViT-B-32", "coca_ViT-L-14/laion2b_s13b_b90k"),
    "SigLIP, SigLIP 2": ("ViT-B-32-SigLIP2-256", "ViT-B-16-SigLIP2/webli"),
    "EVA-02": ("EVA02-B-16", "EVA02-B-16/merged2b_s8b_b131k"),
    "PE-Core": ("PE-Core-T-16-384", "PE-Core-B-16/meta"),
    "MobileCLIP-B, MobileCLIP2-B and -L-14": ("MobileCLIP2-B", "MobileCLIP2-B/dfndr2b"),
    "ViTamin": ("ViTamin-S", "ViTamin-S/datacomp1b"),
    "hybrid: a convolutional stem, then CLIP's ViT": (HYBRID, "photo"),
}
HEADINGS = ("family", "example", "class token", "GradCAM through", "its gradient", "dense maps", "affinity", "words")
CLASS, MEAN, HEAD = "class token, or mean patch (`pool`)", "mean of the patches", "attention head"
VALUE = "last block, norm, projection"
TEXT = """# Families of models

Made by `python -m clipseg_ws.eval.experiments.families_page > docs/families.md`; do not edit.

{shares}.
The list is [`families.csv`](../eval/results/families.csv), made by
`python -m clipseg_ws.eval.experiments.families -o DIR`. A fine-tuned model of open_clip or transformers is taken by
`clipseg_ws.backbones.wrap(model)`.

## What a method means for a family

{table}

* **GradCAM through**: what the probability is a probability of. Where the class token is what the model pools,
  `pool=patch` takes the mean patch, as the paper does. Elsewhere both values of `pool` are the model's own pooling.
* **its gradient**: by hand where the last block has CLIP's layout (no autograd, all classes at once), else by autograd;
  both give the same numbers (`tests/activations/test_methods_on_families.py`). Activations are what enters the last
  attention.
* **dense maps**: each patch as if it alone were pooled: the modes change the attention of the last block, then norm and
  projection, or the value path of the pooling head, follow.
* **affinity**: attention between patches, mean over the last blocks; rotary positions are turned in as in the model.
  Without a class token the rows add up to 1.
* **words**: presence and decision take a softmax over all words with the model's own scale, for models trained with a
  sigmoid too; their bias is kept as `backbone.logit_bias` and does not change a softmax.
* **positions**: `bicubic` is the library's own resizing (antialiased in open_clip and timm, not in transformers,
  bilinear in NaFlex); rotary positions are scaled to the grid of training as timm does.

## Hybrid models

A folder in open_clip's format whose `open_clip_config.json` names a `stem` in its `vision_cfg`, one of
{stems}: timm's network takes the place of the patch embedding. Patches are of 16 pixels, pictures of any size. Its
weights are part of the model's own file, under `visual.conv1`; timm's pretrained ones are never asked for. In half
precision its batch norms stay float32.

## What cannot work

ResNets and ConvNeXts have no attention between patches; in FastViT (MobileCLIP-S*, MobileCLIP2-S*) convolutions follow
the attention of the last stage. The error says so and names the nearest model that does: a ViT such as
`ViT-B-16-quickgelu/openai`, or `MobileCLIP2-B/dfndr2b`. Towers with registers before the patches, gated attention or
keys shared between heads are refused too. NaN in the maps (an overflow in half precision, broken weights) is an error.

## Second models (`--features`)

`MODEL:stem` (`photo:stem`, `local-dir:PATH:stem`) is the convolutional stem of a hybrid model alone, an ImageNet CNN:
features of strides 8, 16 and 32 on patches of 16 pixels, each of unit length, joined. `fewshot.kinds=[layer:0]`,
`[layer:1]` and `[layer:2]` are the single strides. It has no attention: set `affinity=false`.

Else any vision transformer of transformers whose patches lie on a grid. Kinds that take pictures in a way of their own:

{kinds}
"""


def page(table: Path = TABLE) -> str:
    """The whole page; ``table`` is what ``families`` wrote."""
    rows = [list(HEADINGS)]
    for family, (architecture, name) in FAMILIES.items():
        rows.append(row(family, f"`{name}`", small_backbone(architecture)))
    rows += [speaker_row(kind) for kind in SPEAKERS]
    kinds = [["model_type", "affinity", "how"]]
    kinds += [[f"`{e.name}…`", "yes" if e.about["affinity"] else "no", e.summary] for e in FEATURE_KINDS.values()]
    with table.open(encoding="utf-8", newline="") as file:
        listed: list[dict[str, Any]] = [{**line, "vit": line["vit"] == "True"} for line in csv.DictReader(file)]
    text = f"Of `open_clip.list_pretrained()` {shares(listed)}"
    stems = ", ".join(f"`{name}`" for name in STEMS)
    return TEXT.format(shares=text, table=markdown(rows), kinds=markdown(kinds), stems=stems)


def row(family: str, example: str, backbone: Any) -> list[str]:
    """The cells of one family, read off a model of it."""
    last, tower = backbone.last_block, getattr(backbone, "tower", None)
    rotary = tower is not None and tower.rotation(backbone.native_grid) is not None
    through = CLASS if tower is None or tower.pools_class_token else HEAD if has_head(tower) else MEAN
    return [
        family,
        example,
        "yes" if last.class_token else "no",
        through,
        "by hand" if isinstance(last, LastBlockWeights) else "autograd",
        "last block, value path of the head" if through == HEAD else VALUE,
        "rotary attention" if rotary else "attention",
        "softmax" if backbone.logit_bias is None else "softmax; sigmoid's scale and bias kept",
    ]


def has_head(tower: Any) -> bool:
    """Whether a tower pools by attention."""
    holders = (tower.module, getattr(tower.module, "trunk", None))
    return any(getattr(holder, "attn_pool", None) is not None for holder in holders)


def speaker_row(kind: str) -> list[str]:
    """The cells of a kind of transformers' models; tests/backbones/test_speakers.py holds them against the models."""
    summary, siglip = SPEAKERS[kind].summary.partition(",")[0], kind.startswith("siglip")
    name = f"`hf:REPO` of `{SPEAKERS[kind].about['class']}`"
    if siglip:
        cells = ["no", HEAD, "autograd", "last block, value path of the head", "attention"]
        return [f"{summary} (transformers)", name, *cells, "softmax; sigmoid's scale and bias kept"]
    return [f"{summary} (transformers)", name, "yes", CLASS, "by hand", VALUE, "attention", "softmax"]


def markdown(rows: list[list[str]]) -> str:
    """A table; the first row is the headings."""
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    print(page(), end="")
