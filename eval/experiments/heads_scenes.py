"""Heads from tags on drawn scenes, the rows of ``heads.csv``.

``python -m clipseg_ws.eval.experiments.heads_scenes -o FOLDER`` makes them.

Training scenes with tags only -> pseudo masks by the weak default, refined or not -> heads, with the confidence-guided
loss or with plain cross-entropy, over several seeds -> held-out scenes without tags, beside the default of the zero
setting: as ``predict`` does it, and without affinity and picture refiner, which mend outlines whatever the loss
made of them. Every step is a command of ``clipseg-ws``, so a killed run goes on where it was.
Another kind of training wants another FOLDER; masks of several refiners share one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene

FIRST_SEED = 4_000_000  # training scenes; choices were made on scenes from 6,000,000 on, held-out ones from 10,000,000
MODEL = ("--model", "nano", "--dtype", "float32")
UNREFINED = "+refine=none+affinity=false"  # a head's own answer, one forward pass and nothing else


def draw(folder: Path, count: int) -> None:
    """``images/SEED.png`` and ``tags.csv`` of the training scenes; what is there is not drawn again."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        scene = draw_scene(seed, 224)
        rows.append({"image": f"{seed}.png", "tags": ";".join(scene.tags)})
        if not (path := folder / "images" / f"{seed}.png").exists():
            Image.fromarray(scene.image).save(path)
    pd.DataFrame(rows).to_csv(folder / "tags.csv", index=False, lineterminator="\r\n")


def command(*words: object) -> None:
    """One ``clipseg-ws`` command; its failure ends the run."""
    subprocess.run([sys.executable, "-m", "clipseg_ws", *map(str, words)], check=True)


def masks_folder(root: Path, options: argparse.Namespace) -> Path:
    """Where the pseudo masks of this refiner lie."""
    return root / f"masks-{options.refine}"


def training(root: Path, options: argparse.Namespace, seed: int, weighting: str) -> Path:
    """Train one head; returns its file."""
    scheme = "" if options.scheme == "plain" else f"_{options.scheme}"
    name = f"decoder_{options.refine}_{weighting}{scheme}_s{seed}.safetensors"
    kind = f"decoder(hidden={options.hidden}, depth={options.depth}, upsample=2, dropout={options.dropout})"
    head = ("--kind", kind, "--detail", "2", "--set", f"short_side={options.side}")
    read = ("--more-scales", options.more_scales) if options.more_scales else ()
    learn = (
        "--lr", "2e-3", "--validation", "0", "--train", f"background={options.background}",
        "--views", options.views, "--paste", options.paste, "--steps", options.steps, "--seed", seed,
        "--weighting", weighting, "--train", f"precision={options.precision}", "--scheme", options.scheme,
    )  # fmt: skip
    command("train", masks_folder(root, options), "--images", root / "images", "-o", root / name, *MODEL, *head, *read,
            *learn, "--tokens", root / f"tokens-{options.refine}")  # fmt: skip
    return root / name


def main(arguments: list[str] | None = None) -> None:
    """Draw, label, train, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("heads-scenes"))
    parser.add_argument("--scenes", type=int, default=1000, help="training scenes")
    parser.add_argument("--refine", choices=("crf", "none"), default="crf", help="of the pseudo masks")
    parser.add_argument("--side", type=int, default=336, help="short side of the pictures that the heads see, pixels")
    parser.add_argument("--more-scales", default="0.667", help="multiples of it at which they see them too; '': none")
    parser.add_argument("--hidden", type=int, default=192, help="width of the decoder")
    parser.add_argument("--depth", type=int, default=2, help="its layers")
    parser.add_argument("--dropout", type=float, default=0.2, help="its dropped channels")
    parser.add_argument("--views", type=int, default=6, help="of every picture in the token store")
    parser.add_argument("--paste", type=int, default=2, help="most things of other pictures in an augmented view")
    parser.add_argument("--background", type=float, default=0.4, help="how much a background pixel counts")
    parser.add_argument("--steps", type=int, default=1500, help="of every training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weightings", nargs="+", default=["hard", "none"], help="hard: confidence-guided")
    parser.add_argument("--scheme", choices=("plain", "consistency", "rounds"), default="plain", help="of the training")
    parser.add_argument("--precision", default="bfloat16", help="of the training")
    parser.add_argument("--count", type=int, default=200, help="held-out scenes")
    options = parser.parse_args(arguments)
    root = options.output
    draw(root, options.scenes)
    command("pseudo", root / "images", "--tags", root / "tags.csv", "-c", ";".join(KINDS), *MODEL, "--method",
            "default", "--refine", options.refine, "--confidence", "0", "-o", masks_folder(root, options))  # fmt: skip
    pairs = [(seed, weighting) for seed in range(options.seeds) for weighting in options.weightings]
    heads = [training(root, options, *pair) for pair in pairs]
    answers = ["default", *(f"head:{path}" for path in heads)]
    methods = ",".join([*answers, *(answer + UNREFINED for answer in answers)])
    command("eval", "scenes", "--setting", "zero", *MODEL, "--method", methods, "--batch-size", "8", "--no-boundary",
            "--gallery", "0", "--count", options.count, "-o", root / "results")  # fmt: skip


if __name__ == "__main__":
    main()
