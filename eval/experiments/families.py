"""Which rows of open_clip's table can be used, and why not.

``python -m clipseg_ws.eval.experiments.families -o FOLDER`` writes ``families.csv``, one row for every row of
``open_clip.list_pretrained()``. A row "loads" where its name is accepted, and where a model of its architecture, built
from open_clip's configuration with random weights and two blocks (``small_models.py``), gives the picture and text
embeddings of open_clip's own forward within 1e-5 of their largest number. Rows that open_clip lists under the
architecture with the other GELU than their weights were trained with load under the name that is given ("loads as").
Needs no network and about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import torch
from tqdm import tqdm

from clipseg_ws.backbones import UnsupportedBackbone
from clipseg_ws.backbones.architecture import odd_picture_tower, timm_file
from clipseg_ws.backbones.tags import resolve_tag
from clipseg_ws.eval.experiments.small_models import random_model, small_config, tokenize
from clipseg_ws.eval.tables import write_table

COLUMNS = ("name", "tower", "vit", "answer", "error", "why")
CONVOLUTIONS = ("ResNet", "convnext", "fastvit")
LIMIT = 1e-5  # of the largest number of an embedding


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    rows = list(table(tqdm(open_clip.list_pretrained(), disable=None)))
    given.output.mkdir(parents=True, exist_ok=True)
    write_table(given.output / "families.csv", COLUMNS, rows)
    print(shares(rows))


def table(names: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """One row a name, as ``COLUMNS``; ``error`` is that of the small model, relative to the largest number."""
    errors: dict[str, float] = {}
    for architecture, weights in names:
        cfg = open_clip.get_model_config(architecture)
        tower = kind_of_tower(cfg["vision_cfg"])
        answer, why = judge(f"{architecture}/{weights}")
        error: Any = ""
        if answer != "refused":
            key = json.dumps([cfg["vision_cfg"], cfg["text_cfg"].get("hf_model_name"), "multimodal_cfg" in cfg])
            if key not in errors:
                errors[key] = parity(architecture)
            error = f"{errors[key]:.0e}"
            if not errors[key] <= LIMIT:
                answer, why = "refused", "other numbers than open_clip's own"
        vit = not tower.startswith(CONVOLUTIONS)
        yield dict(zip(COLUMNS, (f"{architecture}/{weights}", tower, vit, answer, error, why), strict=True))


def kind_of_tower(vision: dict[str, Any]) -> str:
    """ "open_clip", "ResNet", or timm's file and model."""
    name = vision.get("timm_model_name")
    if name:
        return f"{timm_file(name)}:{name}"
    return "open_clip" if isinstance(vision.get("layers", 12), int) else "ResNet"


def judge(name: str) -> tuple[str, str]:
    """("loads", ""), ("loads as", the name) or ("refused", why): what loading by name would say before it fetches."""
    try:
        resolve_tag(name)
    except UnsupportedBackbone as error:
        return "refused", str(error).partition("cannot be used: ")[2].partition("; use ")[0] or str(error)
    except ValueError as error:
        right = str(error).rpartition("use ")[2]
        resolve_tag(right)
        return "loads as", right
    return "loads", ""


@torch.no_grad()
def parity(architecture: str) -> float:
    """Largest difference between a small model's embeddings and those of open_clip's own forward, relative."""
    from clipseg_ws.backbones import wrap

    cfg = small_config(architecture)
    assert odd_picture_tower(cfg["vision_cfg"]) is None
    model = random_model(cfg, architecture)
    backbone = wrap(model, tokenizer=tokenize)
    (h, w), p = backbone.native_grid, backbone.patch_size
    pixels = torch.randn(1, 3, h * p, w * p, generator=torch.Generator().manual_seed(1))
    texts = ["a photo of a cat.", "grass"]
    pairs = (
        (backbone.embed(pixels), model.encode_image(pixels)),
        (backbone.embed_text(texts), model.encode_text(tokenize(texts), normalize=True)),
    )
    if type(model).__name__ == "CoCa":  # normalises by default
        pairs = ((backbone.embed(pixels), model.encode_image(pixels, normalize=False)), pairs[1])
    return max(float((mine - own).abs().max() / own.abs().max()) for mine, own in pairs)


def shares(rows: list[dict[str, Any]]) -> str:
    """ "150 of 160 rows with a ViT load (93.8 %), 10 of them under the name with the right GELU; 40 rows ..."."""
    vits = [row for row in rows if row["vit"]]
    loads = [row for row in vits if row["answer"] != "refused"]
    twins = sum(row["answer"] == "loads as" for row in loads)
    return (
        f"{len(loads)} of {len(vits)} rows with a ViT load ({100 * len(loads) / max(len(vits), 1):.1f} %), {twins} of "
        f"them under the name with the right GELU; {len(rows) - len(vits)} rows have no ViT (ResNet, ConvNeXt, FastViT)"
    )


if __name__ == "__main__":
    main()
