"""Train the embedded model on drawn scenes: ``python -m clipseg_ws.embedded.nano.train`` (deterministic, resumable).

The defaults are the recipe of the shipped weights. Every step depends on the seed, the step number and the weights
only, so ``--resume`` continues exactly as if nothing had happened (on the same machine and thread count).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import nn
from tqdm import tqdm

from clipseg_ws.embedded.nano import CONFIG
from clipseg_ws.embedded.nano.anchors import anchor_texts
from clipseg_ws.embedded.nano.data import Pool, build_pool, patch_shares, sample_batch
from clipseg_ws.embedded.nano.objective import Prepared, objective
from clipseg_ws.embedded.nano.recipe import TrainConfig, make_optimisers, pace
from clipseg_ws.embedded.nano.texts import caption_list, word_list
from clipseg_ws.embedded.training import log_rows, plain_vocabulary, save_half, start_texts


def build_model(config_path: Path = CONFIG) -> Any:
    """The untrained model of an open_clip configuration file, float32, on the CPU."""
    return open_clip.CLIP(**json.loads(config_path.read_text())["model_cfg"])


def _initial(model: Any) -> None:
    """Small random token embeddings and a warm logit scale; the rest keeps open_clip's initial values."""
    start_texts(model)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(20.0))


class Trainer:
    """Model, running mean, optimiser and step number; ``step()`` trains one step, ``save``/``load`` keep everything."""

    def __init__(self, config: TrainConfig, pool: Pool) -> None:
        """Fresh weights from ``config.seed``."""
        self.config, self.pool, self.done = config, pool, 0
        device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
        self.device = torch.device(device)
        torch.manual_seed(config.seed)
        self.model = build_model()
        _initial(self.model)
        self.tokenizer = open_clip.SimpleTokenizer(context_length=self.model.context_length)
        self.vocabulary = plain_vocabulary(self.tokenizer)
        self.model.to(self.device).train()
        anchor_texts(self.model, self.tokenizer, self.vocabulary, config.text_steps, config.seed)
        self.mean = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.optimisers = make_optimisers(self.model, config)
        cfg = json.loads(CONFIG.read_text())["preprocess_cfg"]
        self._ahead = ThreadPoolExecutor(1)  # the next step's data are made during this one
        self._next: Future[Prepared] | None = None
        self.norm = [torch.tensor(cfg[k], device=self.device).view(1, 3, 1, 1) for k in ("mean", "std")]

    def prepare(self, number: int) -> Prepared:
        """Pictures and texts of step ``number``; reads neither the weights nor anything that a step changes."""
        config = self.config
        rng = np.random.default_rng((config.seed, number))
        size = int(rng.choice(config.sizes(number)))
        batch = sample_batch(self.pool, config.batch, size, (config.seed, number, 1))
        shares = patch_shares(batch.labels, self.model.visual.patch_size[0])
        tags = shares[..., 1:].sum(1) >= 0.5  # [B, K]: at least half a patch of it
        words = word_list(rng, self.vocabulary)
        tokens = self.tokenizer([*words.prompts, *caption_list(rng, tags, batch.grounds)])
        return Prepared(batch, shares, tags, tokens, words.negatives)

    def step(self) -> dict[str, float]:
        """One optimiser step; returns the losses, the logit scale and the learning rate."""
        config, number = self.config, self.done
        data = self._next.result() if self._next is not None else self.prepare(number)
        self._next = self._ahead.submit(self.prepare, number + 1)
        share = pace(config, number)
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = share * group["peak"]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            pixels = (data.batch.images.to(self.device) - self.norm[0]) / self.norm[1]
            chance = np.random.default_rng((config.seed, number, 2))
            blocks = config.attention_blocks
            losses = objective(self.model, pixels, data, config.weights(number), blocks, chance)
        total = torch.stack(list(losses.values())).sum()
        self.model.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100.0))
            keep = min(config.ema, (1 + number) / (10 + number))
            for name, parameter in self.model.named_parameters():
                self.mean[name].lerp_(parameter, 1 - keep)
        self.done += 1
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        extra = {"norm": float(norm), "scale": float(self.model.logit_scale.detach().exp()), "lr": share * config.lr}
        extra["size"] = data.batch.images.shape[-1]
        return {"step": self.done, "total": float(total.detach()), **values, **extra}

    def save(self, path: Path) -> None:
        """Everything that ``load`` needs, written through a temporary name."""
        state = {"config": asdict(self.config), "done": self.done, "model": self.model.state_dict(), "mean": self.mean,
                 "optimisers": [optimiser.state_dict() for optimiser in self.optimisers]}  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        """Continue a saved run. Raises ValueError where its configuration is another one (``device`` may differ)."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        mine, its = asdict(self.config) | {"device": ""}, state["config"] | {"device": ""}
        if mine != its:
            differ = {k: (its.get(k), mine[k]) for k in mine if its.get(k) != mine[k]}
            raise ValueError(f"{path} was made with other settings (its, yours): {differ}; resume with its settings")
        self.model.load_state_dict(state["model"])
        self._next = None
        self.mean, self.done = state["mean"], state["done"]
        for optimiser, its_state in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(its_state)


def train(config: TrainConfig, out: Path, cache: Path, *, resume: bool = False, every: int = 250) -> Trainer:
    """Run (or continue) a training; writes ``checkpoint.pt``, ``log.csv`` and ``nano.safetensors`` into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, build_pool(cache, config.scenes, config.scene_size))
    checkpoint, log = out / "checkpoint.pt", out / "log.csv"
    if resume and checkpoint.exists():
        trainer.load(checkpoint)
    rows: list[dict[str, Any]] = [*log_rows(log, trainer.done)]
    start, first = time.monotonic(), trainer.done
    kinds = ["contrast", "presence", "region", "affinity", "cam", "refined"]
    names = ["step", "total", *kinds, "norm", "scale", "lr", "size"]
    with log.open("w", newline="") as file, tqdm(total=config.total, initial=first, disable=None) as bar:
        writer = csv.DictWriter(file, [*names, "seconds"], restval="")
        writer.writeheader()
        writer.writerows(rows)
        while trainer.done < config.total:
            row = trainer.step()
            writer.writerow({n: f"{v:.6g}" for n, v in row.items()} | {"seconds": f"{time.monotonic() - start:.1f}"})
            bar.update()
            if trainer.done % every == 0 or trainer.done == config.total:
                file.flush()
                trainer.save(checkpoint)
                save_half(trainer.mean, out / "nano.safetensors")
    return trainer


def main(arguments: list[str] | None = None) -> None:
    """Command line; every field of ``TrainConfig`` is an option."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in fields(TrainConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--out", type=Path, default=Path("nano-training"), help="folder of the checkpoint and the log")
    parser.add_argument("--cache", type=Path, default=None, help="folder of the scene pool (default: OUT/pool)")
    parser.add_argument("--resume", action="store_true", help="continue from OUT/checkpoint.pt if it is there")
    parser.add_argument("--every", type=int, default=250, help="steps between two checkpoints")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0: torch's choice")
    options = vars(parser.parse_args(arguments))
    out, cache, resume = options.pop("out"), options.pop("cache"), options.pop("resume")
    every, threads = options.pop("every"), options.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    train(TrainConfig(**options), out, cache or out / "pool", resume=resume, every=every)


if __name__ == "__main__":
    main()
