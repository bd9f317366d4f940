"""Model, averaged model, tables of words, optimisers and step number of a training of ``photo``."""

from __future__ import annotations

import copy
import json
import math
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.backbones.hybrid import empty_hybrid
from clipseg_ws.embedded.losses import Walk, patch_walk
from clipseg_ws.embedded.photo import CONFIG
from clipseg_ws.embedded.photo.data import Batch, Pool, draw, make_batch
from clipseg_ws.embedded.photo.objective import (
    Logits,
    Stemmed,
    Truth,
    Words,
    free_names,
    label_losses,
    logits_of,
    map_losses,
    mask_losses,
    stem_similarity,
    teacher_loss,
    weighted,
)
from clipseg_ws.embedded.photo.recipe import Stage, TrainConfig, Weights, make_optimisers, pace
from clipseg_ws.embedded.photo.stem import PIXELS, fast_features, read_imagenet

MAX_SCALE = 60.0
ATTENTION_BLOCKS = 2


class Trainer:
    """``step()`` trains one step; ``save`` and ``load`` keep everything that a step depends on but the masks.

    Args:
        config: the recipe. pool: pictures and labels. related: bool [P, 1000], see ``related.related_names``.
        compile: compile the stem's pass. stem_weights: read the stem's ImageNet weights (tests do without).
    """

    def __init__(self, config: TrainConfig, pool: Pool, related: Tensor, *, compile: bool = True,
                 configuration: Path = CONFIG, stem_weights: bool = True) -> None:  # fmt: skip
        self.config, self.pool, self.done = config, pool, 0
        self.device = torch.device(config.device)
        self.related = related.to(self.device)
        self.masks: dict[int, np.ndarray] = {}
        torch.manual_seed(config.seed)
        self.model = empty_hybrid(json.loads(configuration.read_text())["model_cfg"])
        visual: Any = self.model.visual
        width = visual.proj.shape[1]
        classifier = read_imagenet(visual.conv1) if stem_weights else (torch.randn(1000, 1280), torch.zeros(1000))
        count = len(pool.names) + config.backgrounds + 1 + 1000
        self.table = nn.Parameter(F.normalize(torch.randn(count, width), dim=-1).to(self.device))
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0), device=self.device))
        visual.conv1.trunk.requires_grad_(False).eval()
        self.visual = visual.to(self.device)
        self.classifier = tuple(part.to(self.device) for part in classifier)
        self.features = fast_features(visual.conv1, compile=compile)
        self.pixels = [torch.tensor(part, device=self.device).view(1, 3, 1, 1) for part in PIXELS]
        self.mean_visual = copy.deepcopy(self.visual).requires_grad_(False)
        self.mean_table = self.table.detach().clone()
        self.optimisers = make_optimisers(self.visual, [self.table, self.log_scale], config)
        self._ahead = ThreadPoolExecutor(1)
        self._next: Future[Batch] | None = None

    def columns(self) -> list[str]:
        """Of the log."""
        return ["step", *vars(Weights()), "scale", "lr", "norm", "seconds"]

    def words(self, table: Tensor) -> Words:
        """Unit vectors of a table [P + G + 1 + 1000, E]."""
        unit = F.normalize(table, dim=-1)
        concepts, grounds = len(self.pool.names), self.config.backgrounds
        return Words(*unit.split([concepts, grounds, 1, 1000]))

    def mean_words(self) -> tuple[Words, Tensor]:
        """Words and logit scale of the averaged model."""
        return self.words(self.mean_table), self.log_scale.detach().exp().clamp(max=MAX_SCALE)

    @torch.no_grad()
    def look(self, pixels: Tensor) -> Walk:
        """Pixels [B, 3, H, W] in [0, 1] -> the averaged model's walk."""
        _, x16, x32 = self.features(self._normalised(pixels))
        with self._autocast():
            return patch_walk(self.mean_visual, self.mean_visual.conv1.join(x16, x32), ATTENTION_BLOCKS)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.to(self.device) - self.pixels[0]) / self.pixels[1]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def prepare(self, number: int) -> Batch:
        """Views of step ``number``; reads no weights."""
        config, pool = self.config, self.pool
        index, inner = config.place(number)
        stage, before = config.stages[index], config.stages[:index]
        own, objects = stage.batch - stage.objects, stage.objects
        start = sum(one.steps * (one.batch - one.objects) for one in before) + inner * own
        chosen = draw((config.seed, 1), 0, pool.voc, start, own)
        start = sum(one.steps * one.objects for one in before) + inner * objects
        chosen += draw((config.seed, 2), pool.voc, len(pool.items), start, objects)
        rng = np.random.default_rng((config.seed, 3, number))
        return make_batch(pool, chosen, self.masks, stage.size, stage.crop, rng)

    def _data(self) -> Batch:
        """This step's views; the next step's are begun unless another stage, with other masks, begins there."""
        number = self.done
        batch = self._next.result() if self._next is not None else self.prepare(number)
        same = self.config.place(number)[0] == self.config.place(number + 1)[0] and number + 1 < self.config.total
        self._next = self._ahead.submit(self.prepare, number + 1) if same else None
        return batch

    def _stemmed(self, batch: Batch) -> Stemmed:
        _, x16, x32 = self.features(self._normalised(batch.pixels))
        weight, bias = self.classifier
        opinion = x32.mean((2, 3)) @ weight.T + bias
        patch = torch.einsum("kc,bchw->bkhw", weight, x32) + bias[:, None, None]
        return Stemmed(x16, x32, opinion, patch, stem_similarity(x16, x32))

    def step(self) -> dict[str, float]:
        """One optimiser step; returns weighted losses, the logit scale, the learning rate, the gradient's norm."""
        index, inner = self.config.place(self.done)
        stage = self.config.stages[index]
        batch = self._data()
        stem = self._stemmed(batch)
        present, known = (rows[batch.index].to(self.device) for rows in (self.pool.present, self.pool.known))
        free = free_names(stem.opinion, present, self.related)
        truth = Truth(present, known, batch.shares.to(self.device), batch.index.to(self.device) < self.pool.voc, free)
        losses = weighted(self._losses(stage, inner, stem, truth), stage.weights)
        total = torch.stack(list(losses.values())).sum()
        rate, norm = self._learn(total, stage, inner)
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        self.done += 1
        return {"step": self.done, **values, "scale": float(self.log_scale.detach().exp()), "lr": rate, "norm": norm}

    def _losses(self, stage: Stage, inner: int, stem: Stemmed, truth: Truth) -> dict[str, Tensor]:
        words, scale = self.words(self.table), self.log_scale.exp().clamp(max=MAX_SCALE)
        with self._autocast():
            walk = patch_walk(self.visual, self.visual.conv1.join(stem.x16, stem.x32), ATTENTION_BLOCKS)
            logits = logits_of(walk, words, scale)
        logits = Logits(*(part.float() for part in vars(logits).values()))
        losses = label_losses(walk, logits, truth, stem)
        if stage.weights.teacher and inner >= stage.teacher_from * stage.steps:
            losses["teacher"] = self._teacher(logits, truth, stem, scale)
        if stage.weights.masks:
            losses |= mask_losses(logits, truth)
            chance = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.done)
            losses |= map_losses(walk, words, scale, truth, chance)
        return losses

    def _teacher(self, logits: Logits, truth: Truth, stem: Stemmed, scale: Tensor) -> Tensor:
        with torch.no_grad(), self._autocast():
            seen = patch_walk(self.mean_visual, self.mean_visual.conv1.join(stem.x16, stem.x32), ATTENTION_BLOCKS)
        return teacher_loss(logits, truth, seen, self.words(self.mean_table), scale, stem.similarity)

    def _learn(self, total: Tensor, stage: Stage, inner: int) -> tuple[float, float]:
        """Gradient, optimisers, running mean; returns the learning rate and the gradient's norm."""
        rate = pace(stage, inner)
        learned = [p for p in self.visual.parameters() if p.requires_grad] + [self.table, self.log_scale]
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"]
        torch.autograd.backward(total)
        norm = nn.utils.clip_grad_norm_(learned, self.config.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        keep = min(self.config.ema, (1 + self.done) / (10 + self.done))
        with torch.no_grad():
            for mean, now in zip(self.mean_visual.parameters(), self.visual.parameters(), strict=True):
                if now.requires_grad:
                    mean.lerp_(now, 1 - keep)
            self.mean_table.lerp_(self.table, 1 - keep)
        return rate, float(norm)

    def save(self, path: Path) -> None:
        """Everything that ``load`` needs, written through a temporary name."""
        state = {
            "config": asdict(self.config), "names": self.pool.names, "done": self.done,
            "visual": self.visual.state_dict(), "table": self.table.detach(), "log_scale": self.log_scale.detach(),
            "mean_visual": self.mean_visual.state_dict(), "mean_table": self.mean_table,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }  # fmt: skip
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        """Continue a saved run. Raises ValueError where its recipe or its names are others (``device`` may differ)."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        mine = json.loads(json.dumps(asdict(self.config) | {"device": "", "names": self.pool.names}))
        its = json.loads(json.dumps(state["config"] | {"device": "", "names": state["names"]}))
        if mine != its:
            differ = sorted(key for key in mine if its.get(key) != mine[key])
            raise ValueError(f"{path} was made with another recipe or data ({', '.join(differ)}); use another OUT")
        self.visual.load_state_dict(state["visual"])
        self.mean_visual.load_state_dict(state["mean_visual"])
        with torch.no_grad():
            self.table.copy_(state["table"])
            self.log_scale.copy_(state["log_scale"])
        self.mean_table, self.done, self._next = state["mean_table"], state["done"], None
        for optimiser, its_state in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(its_state)
