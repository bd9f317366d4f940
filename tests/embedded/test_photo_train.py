"""photo's training on a tiny model: losses against oracles, resuming, pseudo masks, the text tower."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from photo_folders import make_folders
from safetensors.torch import load_file
from torch import Tensor

from clipseg_ws.embedded.losses import patch_walk
from clipseg_ws.embedded.photo import data, objective
from clipseg_ws.embedded.photo.concepts import VOC
from clipseg_ws.embedded.photo.data import Pool, load_pool
from clipseg_ws.embedded.photo.export import write_weights
from clipseg_ws.embedded.photo.lexicon import Lexicon
from clipseg_ws.embedded.photo.masks import fitted_size, make_mask, pseudo_masks
from clipseg_ws.embedded.photo.objective import Logits, Truth
from clipseg_ws.embedded.photo.recipe import MASKED, Stage, TrainConfig, Weights, pace
from clipseg_ws.embedded.photo.texts import TextConfig, train_texts
from clipseg_ws.embedded.photo.train import train
from clipseg_ws.embedded.photo.trainer import Trainer

TINY = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16,
                       "stem": "tf_efficientnet_lite0"},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
}  # fmt: skip
STAGES = (
    Stage("labels", 2, 64, 1e-3, Weights(teacher=0.4), teacher_from=0.5, warmup=1, batch=4, objects=1),
    Stage("masks", 2, 64, 1e-3, MASKED, masks=(64,), warmup=1, batch=3, objects=1),
)
CONFIG = TrainConfig(stages=STAGES, backgrounds=3, precision="fp32")


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(data, "SET_ASIDE", 2)
    return load_pool(*make_folders(tmp_path / "data"))


def trainer(pool: Pool, tmp_path: Path) -> Trainer:
    card = tmp_path / "tiny.json"
    card.write_text(json.dumps(TINY))
    related = torch.zeros(len(pool.names), 1000, dtype=torch.bool)
    return Trainer(CONFIG, pool, related, compile=False, configuration=card, stem_weights=False)


def weights(one: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in one.mean_visual.parameters()] + [one.mean_table.flatten()])


def test_stopped_and_continued_is_the_same(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trainer(pool, tmp_path)
    train(whole, pool, tmp_path / "whole")
    part = trainer(pool, tmp_path)
    step, count = part.step, [0]

    def stops() -> dict[str, float]:
        if count[0] == 3:
            raise KeyboardInterrupt
        count[0] += 1
        return step()

    monkeypatch.setattr(part, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        train(part, pool, tmp_path / "part")
    again = trainer(pool, tmp_path)
    train(again, pool, tmp_path / "part")
    assert again.done == whole.done == 4
    assert torch.equal(weights(whole), weights(again))
    rows = (tmp_path / "part/log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "3", "4"]


def test_another_recipe_is_no_continuation(pool: Pool, tmp_path: Path) -> None:
    first = trainer(pool, tmp_path)
    first.save(tmp_path / "c.pt")
    first.config = replace(CONFIG, seed=1)
    with pytest.raises(ValueError, match="seed"):
        first.load(tmp_path / "c.pt")


def test_the_stem_does_not_learn(pool: Pool, tmp_path: Path) -> None:
    one = trainer(pool, tmp_path)
    before = [p.clone() for p in one.visual.conv1.trunk.state_dict().values()]
    joined = one.visual.conv1.project.weight.detach().clone()
    one.step()
    assert all(torch.equal(a, b) for a, b in zip(before, one.visual.conv1.trunk.state_dict().values(), strict=True))
    assert not torch.equal(joined, one.visual.conv1.project.weight)


def test_multi_positive_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, generator=generator)
    present = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]).float()
    known = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1]]).float()
    total, count = 0.0, 0
    for b in range(3):
        for t in range(5):
            if present[b, t]:
                absent = [logits[b, u].exp() for u in range(5) if not present[b, u] and known[b, u]]
                total += float(torch.log(1 + sum(absent) / logits[b, t].exp()))
                count += 1
    assert float(objective.multi_positive(logits, present, known)) == pytest.approx(total / count, rel=1e-5)


def test_mask_losses_against_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(2, 3, 26, generator=generator)  # 22 concepts, 3 background words, 1 other
    imagenet = torch.randn(2, 3, 1000, generator=generator)
    shares = torch.rand(2, 3, 21, generator=generator)
    shares = shares / shares.sum(-1, keepdim=True)
    shares[0, 0] = 0  # nothing known there
    free = torch.rand(2, 1000, generator=generator) > 0.5
    truth = Truth(torch.zeros(2, 22), torch.ones(2, 22), shares, torch.ones(2, dtype=torch.bool), free)
    got = objective.mask_losses(Logits(torch.zeros(0), torch.zeros(0), patches, torch.zeros(0), imagenet), truth)
    plain = wide = weight = 0.0
    for b in range(2):
        for n in range(3):
            ground = patches[b, n, 22:].exp().sum()
            scores = [ground, *patches[b, n, :20].exp()]
            others = imagenet[b, n][free[b]].exp().sum()
            heavy = 2.0 if shares[b, n, 1:].sum() > 0.5 else 1.0
            for c in range(21):
                share = float(shares[b, n, c]) * heavy
                plain -= share * float(torch.log(scores[c] / sum(scores)))
                wide -= share * float(torch.log(scores[c] / (sum(scores) + others)))
                weight += share
    assert float(got["masks"]) == pytest.approx(plain / weight, rel=1e-4)
    assert float(got["mask_others"]) == pytest.approx(wide / weight, rel=1e-4)


def test_names_that_are_surely_absent() -> None:
    opinion = torch.full((1, 1000), -9.0)
    opinion[0, 5] = 9.0  # the stem sees it
    related = torch.zeros(2, 1000, dtype=torch.bool)
    related[1, 7] = True  # may be said of what is present
    free = objective.free_names(opinion, torch.tensor([[0.0, 1.0]]), related)
    assert not free[0, 5] and not free[0, 7] and free[0, 8]


def test_similar_patches_share(pool: Pool, tmp_path: Path) -> None:
    x16, x32 = torch.randn(2, 4, 4, 6), torch.randn(2, 5, 2, 3)
    rows = objective.stem_similarity(x16, x32)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 24))
    assert (rows.diagonal(dim1=1, dim2=2) >= rows.amax(-1) - 1e-6).all()


def test_masks_hold_the_labels_of_the_picture_only(pool: Pool, tmp_path: Path) -> None:
    one = trainer(pool, tmp_path)
    told: list[int] = []
    words, scale = one.mean_words()
    masks = pseudo_masks(pool, one.look, words, scale, (64,), told.append)
    assert sum(told) == 2 * len(masks)
    for i, mask in masks.items():
        assert mask.shape == (pool.pictures[i].height, pool.pictures[i].width)
        allowed = {0, 255, *(1 + torch.nonzero(pool.present[i, :20]).flatten()).tolist()}
        assert set(np.unique(mask).tolist()) <= allowed
        assert fitted_size(pool.pictures[i], 64)[0] % 16 == 0


def test_a_sure_map_becomes_its_mask(pool: Pool) -> None:
    picture = pool.pictures[0]
    logits = torch.full((21, 4, 4), -9.0)
    logits[0], logits[8, :, :2], logits[0, :, :2] = 9.0, 9.0, -9.0
    mask = make_mask(picture, [logits], [7])
    width = picture.width
    assert (mask[:, : width // 4] == 8).mean() > 0.95 and (mask[:, -width // 4 :] == 0).mean() > 0.95


def test_the_text_tower_learns_its_words(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = {k: v for k, v in TINY["model_cfg"]["vision_cfg"].items() if k != "stem"}
    model = open_clip.CLIP(16, plain, TINY["model_cfg"]["text_cfg"])
    book = Lexicon()
    rows = F.normalize(torch.randn(21, 16), dim=-1)
    for name, row in zip(VOC, rows, strict=False):
        book.add(name, row)
    config = TextConfig(steps=250, close=50, batch=24, own=12, noise=8)
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    told: list[int] = []
    near = train_texts(model, tokenizer, book, rows[20], config, told.append)
    assert near > 0.8 and sum(told) == 250
    write_weights(model, tmp_path / "w.safetensors")
    state = load_file(tmp_path / "w.safetensors")
    assert set(state) == set(model.state_dict()) and all(v.dtype == torch.float16 for v in state.values())


def test_pace() -> None:
    stage = Stage("x", 100, 64, 1e-3, Weights(), warmup=10)
    rates = [pace(stage, i) for i in range(100)]
    assert rates[0] < rates[9] and max(rates) <= 1.01e-3 and rates[-1] < 2e-5


def test_the_walk_of_the_backbone_is_the_trainers(pool: Pool, tmp_path: Path) -> None:
    one = trainer(pool, tmp_path)
    one.visual.eval()
    pixels = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        walk = patch_walk(one.visual, one.visual.conv1(pixels), 2)
    assert walk.grid == (3, 4) and walk.values.shape == (2, 12, 16)
    torch.testing.assert_close(walk.cls.norm(dim=-1), torch.ones(2))
