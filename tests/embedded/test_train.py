"""Training of the embedded model: losses against hand-made cases, exact resumption, export."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from clipseg_ws.embedded import losses
from clipseg_ws.embedded.nano.anchors import anchor_loss, anchor_texts, anchors
from clipseg_ws.embedded.nano.data import Pool, build_pool, patch_shares, sample_batch
from clipseg_ws.embedded.nano.recipe import TrainConfig, pace
from clipseg_ws.embedded.nano.scenes import BACKGROUNDS, KINDS, draw_scene
from clipseg_ws.embedded.nano.texts import NEGATIVES, word_list
from clipseg_ws.embedded.nano.train import Trainer, build_model, train
from clipseg_ws.embedded.training import plain_vocabulary, save_half

TINY = TrainConfig(
    steps=4, polish=1, batch=3, size=64, scenes=6, scene_size=64, warmup=1, text_steps=2, precision="fp32",
    device="cpu",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    build_pool(folder, TINY.scenes, TINY.scene_size, workers=1)
    return folder


@pytest.fixture(scope="module")
def pool(cache: Path) -> Pool:
    return build_pool(cache, TINY.scenes, TINY.scene_size)


def test_pool_holds_the_scenes(pool: Pool) -> None:
    for seed in (0, 5):
        scene = draw_scene(seed, TINY.scene_size)
        assert np.array_equal(pool.images[seed], scene.image) and np.array_equal(pool.labels[seed], scene.labels)
        assert BACKGROUNDS[pool.grounds[seed]] == scene.background


def test_batches_depend_on_the_seed_only(pool: Pool) -> None:
    one, two, other = (sample_batch(pool, 4, 48, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert one.images.shape == (4, 3, 48, 48) and one.labels.shape == (4, 48, 48)
    assert torch.equal(one.images, two.images) and torch.equal(one.labels, two.labels)
    assert not torch.equal(one.images, other.images)


def test_patch_shares_count_pixels() -> None:
    labels = torch.zeros(2, 32, 48, dtype=torch.long)
    labels[1, :16, 16:24] = 3  # half of the second patch
    shares = patch_shares(labels, 16)
    assert shares.shape == (2, 6, len(KINDS) + 1)
    assert torch.equal(shares[0, :, 0], torch.ones(6))
    assert shares[1, 1, 3] == 0.5 and shares[1, 1, 0] == 0.5 and shares[1].sum() == 6


def test_word_list_order() -> None:
    words = word_list(np.random.default_rng(0), ["foo", "bar"], common=5, noise=2)
    assert len(words.prompts) == len(KINDS) + len(BACKGROUNDS) + 7 and words.negatives == 7
    assert not set(NEGATIVES) & (set(KINDS) | set(BACKGROUNDS))
    assert len(NEGATIVES) >= 150


def test_walk_equals_the_library() -> None:
    torch.manual_seed(0)
    model = build_model().eval()
    pixels = torch.randn(2, 3, 224, 224)
    tokens = open_clip.SimpleTokenizer(context_length=77)(["a house on grass", "two words and a longer text"])
    with torch.no_grad():
        walk = losses.vision_walk(model, pixels, 2)
        assert torch.allclose(walk.cls, model.encode_image(pixels, normalize=True), atol=1e-5)
        assert torch.allclose(losses.text_walk(model, tokens), model.encode_text(tokens, normalize=True), atol=1e-5)
        small = losses.vision_walk(model, pixels[..., :96, :160], 2)
    assert walk.values.shape == (2, 196, 128) and small.attention.shape == (2, 60, 60)
    assert (small.attention.sum(-1) < 1).all()  # the class token's share is missing


def test_same_region_is_zero_for_the_ideal_attention_only() -> None:
    hot = F.one_hot(torch.tensor([[0, 0, 1, 1, 1, 0]]), 3).float()
    ideal = hot @ hot.transpose(1, 2)
    ideal = ideal / ideal.sum(-1, keepdim=True)
    even = torch.full((1, 6, 6), 1 / 6)
    assert losses.same_region(ideal, hot) == pytest.approx(0, abs=1e-5)
    assert losses.same_region(even, hot) == pytest.approx(np.log(2), abs=1e-5)  # each region is half of the picture
    assert losses.same_region(torch.eye(6)[None], hot) > 1  # a patch that attends to itself alone is no affinity


def test_region_text_weighs_foreground_and_background_apart() -> None:
    texts = torch.eye(2)
    values = torch.tensor([[[1.0, 0], [1, 0], [1, 0], [0, 1]]])  # one foreground patch of text 0, three of text 1
    target = torch.tensor([[[1.0, 0], [0, 1], [0, 1], [0, 1]]])
    front = torch.tensor([[1.0, 0, 0, 0]])
    right, wrong = (-F.log_softmax(torch.tensor([4.0, 0.0]), 0)[i] for i in (0, 1))
    expected = 0.6 * right + 0.4 * (2 * wrong + right) / 3
    found = losses.region_text(values, texts, torch.tensor(4.0), target, front)
    assert found == pytest.approx(float(expected), abs=1e-5)


def test_contrast_accepts_equal_content() -> None:
    unit = torch.eye(2)[[0, 0, 1]]
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    told = losses.contrast(unit, unit, torch.tensor(50.0), same)
    assert told == pytest.approx(2 * np.log(2) / 3, abs=1e-4)  # two equal pictures cannot be told apart, nor must they


def test_activation_maps_agree_with_the_public_gradcam() -> None:
    from clipseg_ws.activations.gradcam import softmax_gradcam
    from clipseg_ws.backbones.openclip import OpenClipBackbone

    torch.manual_seed(1)
    model = build_model()
    pixels, texts = torch.randn(2, 3, 64, 96), F.normalize(torch.randn(5, 128), dim=-1)
    allowed = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]], dtype=torch.bool)
    chosen, scale = torch.tensor([0, 2]), torch.tensor(10.0)
    mine = losses.activation_maps(losses.vision_walk(model, pixels, 2), texts, scale, allowed, chosen)
    backbone = OpenClipBackbone(model)
    tokens = backbone.encode(pixels, attention_blocks=2)
    theirs = softmax_gradcam(backbone, tokens, texts, chosen[:, None], logit_scale=10.0, competitors=allowed)
    assert torch.allclose(mine.detach(), theirs.flatten(1), atol=2e-5)


def test_spread_agrees_with_the_public_affinity() -> None:
    from clipseg_ws.refine.affinity import class_aware_affinity

    torch.manual_seed(2)
    attention = torch.rand(2, 12, 12).pow(3)
    maps = torch.rand(2, 1, 3, 4)
    maps[:, :, 0, 0] = maps[:, :, 2, 3] = 1.0  # at threshold 0 every cell is boxed
    theirs = class_aware_affinity(maps, attention, threshold=0.0)
    assert torch.allclose(losses.spread(attention, maps.flatten(1)), theirs.flatten(1), atol=1e-5)


def test_boxed_keeps_the_box_of_what_is_high() -> None:
    maps = torch.zeros(2, 12)
    maps[0, 5], maps[0, 10], maps[0, 6], maps[0, 0] = 1.0, 0.5, 0.1, 0.3
    expected = maps[0].clone()
    expected[0] = 0  # below the threshold and outside; the low cell 6 lies inside
    assert torch.equal(losses.boxed(maps, (3, 4))[0], expected)
    assert torch.equal(losses.boxed(maps, (3, 4))[1], torch.zeros(12))


def test_stages_follow_one_another() -> None:
    config = TrainConfig(steps=100)
    assert [config.weights(step).refined for step in (0, 49, 50, 71, 72, 99)] == [0, 0, 1, 1, 3, 3]
    assert not config.weights(71).boxes and config.weights(72).boxes and not config.weights(99).flow
    polish = config.weights(100)
    assert polish.flow and polish.cam == 0 and polish.refined > 0
    assert max(config.sizes(0)) < config.size == max(config.sizes(99))


def test_map_loss_prefers_the_right_map() -> None:
    share = torch.tensor([[0.0, 0, 1, 1, 0.5, 0]])
    assert losses.map_loss(share, share) < 0.2 < losses.map_loss(1 - share, share)


def test_learning_rate_warms_up_and_falls_in_every_part() -> None:
    config = TrainConfig(steps=100, warmup=10, polish=50, polish_rounds=2, polish_pace=0.2)
    rates = [pace(config, step) for step in range(config.total)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and rates[99] < 0.02
    assert rates[10:100] == sorted(rates[10:100], reverse=True)
    for start in (100, 150):
        part = rates[start : start + 50]
        assert 0.1 < max(part) <= 0.2 and part[20:] == sorted(part[20:], reverse=True) and part[-1] < 0.01
    assert len(rates) == 200


def test_a_resumed_run_equals_an_uninterrupted_one(pool: Pool, tmp_path: Path) -> None:
    whole = Trainer(TINY, pool)
    rows = [whole.step() for _ in range(TINY.total)]
    assert all(np.isfinite(value) for row in rows for value in row.values())
    first = Trainer(TINY, pool)
    first.step()
    first.save(tmp_path / "checkpoint.pt")
    second = Trainer(TINY, pool)
    second.load(tmp_path / "checkpoint.pt")
    assert second.done == 1
    again = [second.step() for _ in range(TINY.total - 1)]
    assert again == rows[1:] and "refined" in again[-1] and "refined" not in again[0]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
        assert name not in whole.mean or torch.equal(whole.mean[name], second.mean[name]), name
    untrained = build_model()
    assert not torch.equal(whole.model.visual.proj, untrained.visual.proj)
    with pytest.raises(ValueError, match="lr"):
        Trainer(dataclasses.replace(TINY, lr=5.0), pool).load(tmp_path / "checkpoint.pt")


def test_train_writes_checkpoint_log_and_weights(cache: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, steps=1, polish=1, polish_rounds=1)
    trainer = train(config, tmp_path, cache, every=1)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2] and float(rows[1]["total"]) > 0
    weights = load_file(tmp_path / "nano.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.float16}
    build_model().load_state_dict({n: t.float() for n, t in weights.items()}, strict=True)
    assert torch.equal(weights["visual.proj"], trainer.mean["visual.proj"].half())
    resumed = train(config, tmp_path, cache, resume=True)  # nothing is left to do
    assert resumed.done == 2 and not list(tmp_path.glob("*.part"))


def test_export_is_complete(tmp_path: Path) -> None:
    model = build_model()
    save_half(dict(model.named_parameters()), tmp_path / "x.safetensors")
    assert set(load_file(tmp_path / "x.safetensors")) == set(model.state_dict())


def test_anchored_texts_tell_the_concepts_apart() -> None:
    directions = anchors(128, 0)
    assert torch.allclose(directions @ directions.T, torch.eye(21), atol=1e-5)
    right = anchor_loss(torch.cat([directions, directions[-1:]]), directions)
    collapsed = anchor_loss(F.normalize(directions.mean(0, keepdim=True).expand(22, -1), dim=-1), directions)
    assert right < 0.01 < 1 < collapsed
    torch.manual_seed(0)
    model, tokenizer = build_model(), open_clip.SimpleTokenizer(context_length=77)
    before = model.visual.proj.clone()
    anchor_texts(model, tokenizer, plain_vocabulary(tokenizer), 40, 0)
    with torch.no_grad():
        words = losses.text_walk(model, tokenizer([f"a photo of a {word}." for word in (*KINDS, *BACKGROUNDS)]))
    assert ((words @ directions[:20].T).argmax(1) == torch.arange(20)).float().mean() > 0.3  # chance is 0.05
    assert torch.equal(model.visual.proj, before)


def test_plain_vocabulary_has_words() -> None:
    words = plain_vocabulary(open_clip.SimpleTokenizer())
    assert {"house", "cat", "zebra"} <= set(words) and all(word.isalpha() for word in words)
