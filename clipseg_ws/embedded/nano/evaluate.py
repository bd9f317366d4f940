"""Measure the embedded model on held-out scenes: ``python -m clipseg_ws.embedded.nano.evaluate`` prints the table.

The functions of the upper layers (activations, refine, decide) are what is measured; they are imported on call, so
that importing this module loads this layer only. mIoU: sum of intersections over sum of unions per class over all
scenes, mean over the background and the classes that occur.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from clipseg_ws.embedded.nano import CONFIG, WEIGHTS
from clipseg_ws.embedded.nano.scenes import BACKGROUNDS, HELD_OUT_SEED, KINDS, Scene, draw_scene, held_out
from clipseg_ws.structures import TextEmbeddings, Vocabulary


@dataclass(frozen=True)
class EvalConfig:
    """What the table depends on."""

    template: str = "a clean origami {}."  # for classes and background words
    background: tuple[str, ...] = BACKGROUNDS  # words that compete as background
    attention_blocks: int = 2  # last blocks whose attention is averaged
    power: float = 1.5  # background score (1 - max)^power
    box_threshold: float = 0.6  # of the affinity's boxes
    presence: float = 0.3  # presence score from which a name is taken as present (zero setting)
    batch: int = 20


def miou(confusion: np.ndarray) -> float:
    """Mean IoU of a confusion matrix [C, C] (truth in rows) over the classes that occur in the truth."""
    hits, truth, said = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    occurs = truth > 0
    return float((hits[occurs] / (truth + said - hits)[occurs]).mean())


def _labels(maps: Tensor, targets: Tensor, truth: Tensor, power: float) -> Tensor:
    """Class maps [B, K, h, w] of ``targets`` [B, K] -> label ids [B, H, W] at the size of ``truth``."""
    from clipseg_ws.stages.labels import with_background

    grown = F.interpolate(maps, size=truth.shape[-2:], mode="bilinear", align_corners=False).clamp(0, 1)
    best = with_background(grown, "power", alpha=power).argmax(1)  # [B, H, W] in 0..K
    names = F.pad(targets + 1, (1, 0))  # [B, 1+K]: 0 for the background
    return names.gather(1, best.flatten(1)).view_as(best)


def _pad(rows: list[list[int]]) -> Tensor:
    width = max(1, *(len(row) for row in rows))
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows])


def _competitors(targets: Tensor, texts: int) -> Tensor:
    """bool [B, T]: the image's own classes and all background words."""
    allowed = torch.zeros(len(targets), texts + 1, dtype=torch.bool)
    allowed[:, len(KINDS) + 1 :] = True
    return allowed.scatter(1, targets + 1, True)[:, 1:]


def _refined(backbone: Any, tokens: Any, text: Tensor, targets: Tensor, config: EvalConfig) -> dict[str, Tensor]:
    from clipseg_ws.activations.gradcam import softmax_gradcam
    from clipseg_ws.refine.affinity import class_aware_affinity

    allowed = _competitors(targets, len(text))
    cam = softmax_gradcam(backbone, tokens, text, targets, competitors=allowed)
    return {"cam": cam, "affinity": class_aware_affinity(cam, tokens.attention, threshold=config.box_threshold)}


def _words(backbone: Any, config: EvalConfig) -> TextEmbeddings:
    """All kinds, then the background words, one prompt each."""
    synonyms = tuple((kind,) for kind in KINDS)
    vocabulary = Vocabulary(KINDS, synonyms, config.background, (config.template,))
    vectors = backbone.embed_text([config.template.format(word) for word in (*KINDS, *config.background)])
    owner = torch.tensor([*range(len(KINDS)), *(-1 for _ in config.background)], device=vectors.device)
    return TextEmbeddings(vectors, owner, vocabulary)


def _batch_predictions(
    backbone: Any, scenes: list[Scene], words: TextEmbeddings, config: EvalConfig
) -> dict[str, Tensor]:
    """Label ids [B, H, W] by row of the table."""
    from clipseg_ws.activations.dense import dense_embeddings
    from clipseg_ws.activations.presence import presence

    text = words.vectors
    truth = torch.from_numpy(np.stack([scene.labels for scene in scenes])).long()
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    tokens = backbone.encode((images - mean) / std, attention_blocks=config.attention_blocks)
    dense = dense_embeddings(backbone, tokens, "maskclip") @ text.T  # [B, h, w, T]
    probs = (backbone.logit_scale * dense).softmax(-1).permute(0, 3, 1, 2)  # [B, T, h, w]
    kinds = len(KINDS)
    seen = [[KINDS.index(tag) for tag in scene.tags] for scene in scenes]
    found = presence(backbone, tokens, words, threshold=config.presence) >= config.presence  # [B, kinds]
    guessed = [row.nonzero().flatten().tolist() for row in found]
    rows: dict[str, Tensor] = {}
    for setting, tags in (("weak", seen), ("zero", guessed)):
        targets = _pad(tags)
        for name, maps in _refined(backbone, tokens, text, targets, config).items():
            rows[f"{setting} {name}"] = _labels(maps, targets, truth, config.power)
    joined = torch.cat([1 - probs[:, :kinds].sum(1, keepdim=True), probs[:, :kinds]], dim=1)
    grown = F.interpolate(joined, size=truth.shape[-2:], mode="bilinear", align_corners=False)
    rows["zero dense"] = grown.argmax(1)
    present = torch.zeros(len(scenes), kinds + 1, dtype=torch.bool)
    present[:, 0] = True
    present.scatter_(1, _pad(seen).clamp(min=-1) + 1, True)
    rows["weak dense"] = grown.masked_fill(~present[..., None, None], -1).argmax(1)
    return rows


def evaluate(backbone: Any, scenes: Iterable[Scene], config: EvalConfig | None = None) -> dict[str, float]:
    """mIoU in 0..1 by row: "weak cam", "weak affinity", "weak dense" (tags given), "zero ..." (all names given).

    ``backbone`` is an ``OpenClipBackbone``; all scenes have one size, a multiple of its patch.
    """
    config = config or EvalConfig()
    words = _words(backbone, config)
    classes = len(KINDS) + 1
    counts: dict[str, np.ndarray] = {}
    waiting: list[Scene] = []
    everything = list(scenes)
    for i, scene in enumerate(tqdm(everything, desc="measuring", disable=None)):
        waiting.append(scene)
        if len(waiting) < config.batch and i + 1 < len(everything):
            continue
        truth = np.stack([s.labels for s in waiting]).astype(np.int64)
        for name, labels in _batch_predictions(backbone, waiting, words, config).items():
            pairs = np.bincount((truth * classes + labels.numpy()).ravel(), minlength=classes**2)
            counts[name] = counts.get(name, 0) + pairs.reshape(classes, classes)
        waiting = []
    return {name: miou(confusion) for name, confusion in counts.items()}


def load(weights: Path = WEIGHTS, config_path: Path = CONFIG) -> Any:
    """The model as ``OpenClipBackbone``, float32 on the CPU, read strictly."""
    import open_clip
    from safetensors.torch import load_file

    from clipseg_ws.backbones.openclip import OpenClipBackbone

    settings = json.loads(config_path.read_text())
    model = open_clip.CLIP(**settings["model_cfg"])
    model.load_state_dict({n: t.float() for n, t in load_file(weights).items()}, strict=True)
    return OpenClipBackbone(model, name="nano", **settings["preprocess_cfg"])


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="seed of the first scene")
    for name, kind in (("template", str), ("attention-blocks", int), ("power", float), ("presence", float),
                       ("box-threshold", float)):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=getattr(EvalConfig, name.replace("-", "_")))
    options = parser.parse_args(arguments)
    chosen = {n: getattr(options, n) for n in ("template", "attention_blocks", "power", "presence", "box_threshold")}
    if options.seed == HELD_OUT_SEED:
        scenes = list(held_out(options.scenes, options.size))
    else:
        scenes = [draw_scene(options.seed + i, options.size) for i in range(options.scenes)]
    for name, value in evaluate(load(options.weights), scenes, EvalConfig(**chosen)).items():
        print(f"{name:16s} {value:.4f}")


if __name__ == "__main__":
    main()
