"""Train ``photo``: ``python -m clipseg_ws.embedded.photo.train --voc ROOT --voc-small FOLDER --objects FOLDER -o OUT``.

Image labels only. Every step depends on the seed, the step number, the masks made before its stage and the weights, so
a run that was stopped goes on from its last checkpoint as if nothing had happened (same machine and threads).
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from clipseg_ws.embedded.photo.data import Pool, load_pool
from clipseg_ws.embedded.photo.export import export
from clipseg_ws.embedded.photo.masks import pseudo_masks
from clipseg_ws.embedded.photo.recipe import TrainConfig
from clipseg_ws.embedded.photo.related import related_names
from clipseg_ws.embedded.photo.trainer import Trainer
from clipseg_ws.embedded.photo.wordnet import WordNet

EVERY = 200  # steps between two checkpoints


def stage_masks(trainer: Trainer, pool: Pool, out: Path, stage: int) -> dict[int, np.ndarray]:
    """The masks that a stage learns from, made once and kept in ``OUT/masks-STAGE.npz``."""
    todo = trainer.config.stages[stage]
    if not todo.masks:
        return {}
    path = out / f"masks-{todo.name}.npz"
    if not path.exists():
        total = pool.voc * (len(todo.masks) + 1)
        with tqdm(total=total, desc=f"masks for {todo.name}", disable=None, unit="pic") as bar:
            words, scale = trainer.mean_words()
            masks = pseudo_masks(pool, trainer.look, words, scale, todo.masks, bar.update)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, **{str(i): mask for i, mask in masks.items()})  # type: ignore[arg-type]
        os.replace(part, path)
    with np.load(path) as file:
        return {int(key): file[key] for key in file}


def _rows(path: Path, done: int) -> list[dict[str, Any]]:
    """Rows of an earlier part of this run, up to step ``done``."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) <= done]


def train(trainer: Trainer, pool: Pool, out: Path) -> None:
    """Run or continue; writes ``checkpoint.pt``, ``log.csv`` and ``tables.pt`` into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / "checkpoint.pt", out / "log.csv"
    if checkpoint.exists():
        trainer.load(checkpoint)
    rows, begun = _rows(log, trainer.done), time.monotonic()
    with log.open("w", newline="") as file, tqdm(total=trainer.config.total, initial=trainer.done, disable=None) as bar:
        writer = csv.DictWriter(file, trainer.columns())
        writer.writeheader()
        writer.writerows(rows)
        stage = -1
        while trainer.done < trainer.config.total:
            if (now := trainer.config.place(trainer.done)[0]) != stage:
                stage = now
                trainer.masks = stage_masks(trainer, pool, out, stage)
            row = trainer.step()
            writer.writerow({n: f"{v:.5g}" for n, v in row.items()} | {"seconds": f"{time.monotonic() - begun:.1f}"})
            bar.update()
            if trainer.done % EVERY == 0 or trainer.config.place(trainer.done)[0] != stage:
                file.flush()
                trainer.save(checkpoint)
        trainer.save(checkpoint)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--voc", type=Path, required=True, help="folder VOC2012 in the official layout")
    parser.add_argument("--voc-small", type=Path, required=True, help="list.txt, images/, masks/: more of train_aug")
    parser.add_argument("--objects", type=Path, required=True, help="folders KIND/NAME of photos of single things")
    parser.add_argument("-o", "--out", type=Path, required=True, help="checkpoint, log, masks, weights")
    parser.add_argument("--wordnet", type=Path, help="folder of WordNet 3.0's data.noun; Debian's by default")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--no-compile", action="store_true", help="the stem's pass as it is, where compiling fails")
    options = parser.parse_args(arguments)
    torch.set_flush_denormal(True)  # before there are threads, which inherit it: tiny numbers are slow
    wordnet = WordNet(options.wordnet)
    pool = load_pool(options.voc, options.voc_small, options.objects)
    config = TrainConfig(device=options.device)
    trainer = Trainer(config, pool, related_names(wordnet, pool.names), compile=not options.no_compile)
    train(trainer, pool, options.out)
    export(trainer, pool, wordnet, options.out)


if __name__ == "__main__":
    main()
