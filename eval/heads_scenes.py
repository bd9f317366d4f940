"""Heads from tags on drawn scenes: ``python -m clipseg_ws.eval.heads_scenes -o FOLDER`` makes ``heads.csv``'s rows.

Training scenes with tags only -> pseudo masks by the weak default with a dense CRF -> heads, with the confidence-guided
loss and with plain cross-entropy, over several seeds -> held-out scenes without tags, beside the default of the zero
setting. Every step is a command of ``clipseg-ws``, so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

from PIL import Image

from clipseg_ws.nano.scenes import KINDS, draw_scene

FIRST_SEED = 4_000_000  # training scenes; choices were made on scenes from 6,000,000 on, held-out ones from 10,000,000
MODEL = ("--model", "nano", "--dtype", "float32")
HEAD = ("--detail", "2", "--option", "hidden=96", "--option", "depth=1", "--option", "upsample=2")
LEARN = ("--option", "dropout=0.1", "--lr", "2e-3", "--threshold", "0.95", "--validation", "0")


def draw(folder: Path, count: int) -> None:
    """``images/SEED.png`` and ``tags.csv`` of the training scenes; what is there is not drawn again."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = [("image", "tags")]
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        scene = draw_scene(seed, 224)
        rows.append((f"{seed}.png", ";".join(scene.tags)))
        if not (path := folder / "images" / f"{seed}.png").exists():
            Image.fromarray(scene.image).save(path)
    with open(folder / "tags.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def command(*words: object) -> None:
    """One ``clipseg-ws`` command; its failure ends the run."""
    subprocess.run([sys.executable, "-m", "clipseg_ws", *map(str, words)], check=True)


def main(arguments: list[str] | None = None) -> None:
    """Draw, label, train, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("heads-scenes"))
    parser.add_argument("--scenes", type=int, default=1000, help="training scenes")
    parser.add_argument("--views", type=int, default=2, help="of every picture in the token store")
    parser.add_argument("--steps", type=int, default=300, help="of every training")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    root = options.output
    draw(root, options.scenes)
    images, masks = root / "images", root / "masks"
    command("pseudo", images, "--tags", root / "tags.csv", "-c", ";".join(KINDS), *MODEL, "--method", "default",
            "--refine", "crf", "--confidence", "0", "-o", masks)  # fmt: skip
    heads = []
    for seed in range(options.seeds):
        for weighting in ("hard", "none"):
            heads.append(root / f"decoder_{weighting}_s{seed}.safetensors")
            command("train", masks, "--images", images, "-o", heads[-1], *MODEL, *HEAD, *LEARN, "--views",
                    options.views, "--tokens", root / "tokens", "--steps", options.steps, "--seed", seed,
                    "--weighting", weighting)  # fmt: skip
    methods = ",".join(["default", *(f"head:{path}" for path in heads)])
    command("eval", "scenes", "--setting", "zero", *MODEL, "--method", methods, "--batch-size", "8", "--no-boundary",
            "--gallery", "0", "-o", root / "results")  # fmt: skip


if __name__ == "__main__":
    main()
