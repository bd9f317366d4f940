"""A checkpoint goes on only with the training that it belongs to: field by field, whatever its result depends on."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import tiny_clip
from helpers_heads import CLASSES, course, toy
from PIL import Image
from torch import nn

from clipseg_ws import Segmenter
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.door import InputError
from clipseg_ws.heads.augment import Augmentation, AugmentedData
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.consistency import Consistency
from clipseg_ws.heads.course import run_scheme
from clipseg_ws.heads.data import ArrayData, Joined, Retargeted, Targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.file import HeadCard, save_head
from clipseg_ws.heads.identity import digest_of
from clipseg_ws.heads.incremental import Distillation, add_classes, only_new, shifted
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.heads.store import StoredData, TokenStore
from clipseg_ws.heads.training import Trainer
from clipseg_ws.output.formats.png import write_label_png
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.registry import Spec
from clipseg_ws.run.training.masks import MaskFolder, feedback_words
from clipseg_ws.run.training.options import Recipe
from clipseg_ws.run.training.recipe import train_head
from clipseg_ws.structures import Vocabulary

QUICK = {"steps": 4, "batch": 2, "warmup": 1, "ema": 0.0, "weighting": "none"}
LINEAR = FeatureSpec(blocks=(-1,))

# ---- every field of the training's own settings --------------------------------------------------------------------

TRAINING = {  # field -> another value; every field must be here
    "steps": 5, "batch": 4, "accumulate": 2, "lr": 2e-3, "warmup": 2, "weight_decay": 0.1, "clip": 0.5, "ema": 0.5,
    "precision": "bfloat16", "seed": 1, "weighting": "hard", "threshold": 0.5, "power": 1.0, "background": 0.5,
    "losses": {"region": 0.25}, "validate_every": 2, "patience": 3, "save_every": 2,
}  # fmt: skip


def filled(seed, kind="linear", blocks=2, width=8, labels=3):
    """A head whose weights are no zeros."""
    head, generator = make_head(kind, blocks, width, labels), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return head


def settings(folder, config=None, *, data=None, module=None, validation=None, extra=None, **more):
    """What a checkpoint of this training is compared by."""
    config = config or TrainConfig.of(**QUICK)
    module = module or make_head("linear", 2, 8, 3)
    trainer = Trainer(module, data or toy(), config, validation=validation, folder=folder, extra=extra, **more)
    return trainer.settings()


@pytest.mark.parametrize("field", [item.name for item in fields(TrainConfig)])
def test_every_training_option(field, tmp_path):
    before = TrainConfig.of(**QUICK)
    after = replace(before, **{field: TRAINING[field]})
    assert settings(tmp_path, after) != settings(tmp_path, before) == settings(tmp_path / "elsewhere", before)


# ---- every field of the recipe and of the tokens -------------------------------------------------------------------

RECIPE = {
    "kind": "linear", "options": {"hidden": 8}, "blocks": (-1,), "more_scales": (0.5,), "detail": 2, "validation": 0.2,
    "views": 2, "augment": True, "paste": 1, "scheme": "rounds",
}  # fmt: skip
FEATURES = {
    "blocks": (-1,), "short_side": 64, "long_side": 512, "max_patches": 64, "position_interpolation": "bilinear",
    "more_scales": (0.5,),
}  # fmt: skip


def test_every_field_of_recipe_and_tokens():
    assert set(RECIPE) | {"add_to"} == {item.name for item in fields(Recipe)}  # an old head counts by its weights
    assert set(FEATURES) == {item.name for item in fields(FeatureSpec)}
    for field, value in RECIPE.items():
        base = Recipe(views=2) if field == "paste" else Recipe()
        assert replace(base, **{field: value}).as_dict() != base.as_dict(), field
    for field, value in FEATURES.items():
        assert replace(FeatureSpec(), **{field: value}).as_dict() != FeatureSpec().as_dict(), field
    written = ("rounds", "rounds(sure=0.9)", "rounds(rounds=3)")
    rounds = [Recipe(scheme=scheme).as_dict()["scheme"] for scheme in written]
    assert len(set(rounds)) == 3 and Recipe(scheme="rounds(rounds=2)").as_dict()["scheme"] == rounds[0]


# ---- data, first weights, further losses ---------------------------------------------------------------------------


def array(features=None, labels=None, confidence=None):
    base = toy(4)
    features = base.features if features is None else features
    labels = base.targets.labels if labels is None else labels
    return ArrayData(features, labels, [c / 255 for c in base.targets.confidence] if confidence is None else confidence)


def turned(values):
    return [*values[:-1], values[-1].flip(-1) if isinstance(values[-1], torch.Tensor) else values[-1][:, ::-1]]


def test_all_that_data_hold():
    base = toy(4)
    others = [
        array(), array(turned(base.features)), array(labels=turned(base.targets.labels)),
        array(confidence=turned([c / 255 for c in base.targets.confidence])), toy(4, seed=1), toy(3),
        Joined([toy(2), toy(2, seed=1)]), Joined([toy(2, seed=1), toy(2)]), shifted(toy(4), 1), shifted(toy(4), 2),
        only_new(toy(4), 1), Retargeted(toy(4), toy(4, seed=1).targets), Retargeted(toy(4), toy(4, seed=2).targets),
        Retargeted(toy(4), toy(4).targets, made=("a", 1)), Retargeted(toy(4), toy(4).targets, made=("a", 2)),
    ]  # fmt: skip
    digests = [data.digest() for data in others]
    assert len(set(digests)) == len(others) and digests[0] == base.digest()
    same = [Retargeted(toy(4), toy(4, seed=n).targets, made="round 2").digest() for n in (1, 2)]
    assert same[0] == same[1], "rounding of what heads made must not end a training"


def test_stored_and_augmented_data(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    mask, sure = np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)
    one, two = OpenClipBackbone(tiny_clip()), OpenClipBackbone(other_clip())
    targets = Targets([mask[:4, :4]], [sure[:4, :4]])
    stores = []
    for number, (backbone, spec) in enumerate([(one, LINEAR), (two, LINEAR), (one, replace(LINEAR, short_side=48))]):
        stores.append(TokenStore(tmp_path / str(number), backbone, spec))
        stores[-1].build(["a", "b"], lambda name: picture)
    stored = [StoredData(store, ["a"], targets) for store in stores]
    wider = Targets([mask[:4, :5]], [sure[:4, :5]])
    stored += [StoredData(stores[0], ["b"], targets), StoredData(stores[0], ["a"], wider)]
    assert len({data.digest() for data in stored}) == 5

    def views(backbone=one, spec=LINEAR, shown=picture, labels=mask, **more):
        return AugmentedData(backbone, spec, lambda i: (shown, labels, sure), [(32, 32)], **more).digest()

    others = [
        views(), views(two), views(spec=replace(LINEAR, short_side=48)), views(shown=picture.rotate(90)),
        views(labels=mask + 1), views(detail=2), views(augmentation=Augmentation(flip=False)),
        views(change=lambda sample, rng: sample), views(about="these pictures"), views(about="those pictures"),
    ]  # fmt: skip
    assert len(set(others)) == len(others) and views() == others[0]


def test_first_weights_validation_and_further_losses(tmp_path):
    old = [filled(n, labels=2) for n in (0, 1)]
    made = [
        settings(tmp_path, **change)
        for change in (
            {}, {"module": filled(9)}, {"validation": toy(2)}, {"validation": toy(3)},
            {"extra": Consistency()}, {"extra": Consistency(weight=0.5)}, {"extra": Distillation(old[0])},
            {"extra": Distillation(old[1])}, {"extra": Distillation(old[0], threshold=0.6)}, {"about": {"x": 1}},
            {"module": make_head("mlp", 2, 8, 3, hidden=4)}, {"data": toy(seed=4)},
        )
    ]  # fmt: skip
    assert all(one != other for k, one in enumerate(made) for other in made[:k])


class Slotted:
    __slots__ = ()

    def __repr__(self):
        return "slotted"


def test_digests_go_by_content():
    linear = nn.Linear(2, 2)
    values = [
        None, True, 1, 1.0, "1", b"1", [1], (1, [2]), (1, 2), {1}, {"a": 1}, {"a": 2}, {"b": 1}, np.float32(1),
        np.ones(2), np.ones((2, 1)), np.ones(2, np.float32), torch.ones(2), torch.ones(2, dtype=torch.bfloat16),
        torch.zeros(()),
        linear, nn.Linear(2, 2), digest_of, partial(digest_of, 1), partial(digest_of, 2), Augmentation(),
        Augmentation(0.5), Slotted(), HeadCard, [], "", "\ud800",
    ]  # fmt: skip
    digests = [digest_of(value) for value in values]
    assert len(set(digests)) == len(values)
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) and digest_of({1, 2}) == digest_of({2, 1})
    assert digest_of("a", "b") != digest_of("ab") and len(digests[0]) == 16
    assert digest_of(torch.arange(6).view(2, 3).t()) == digest_of(torch.arange(6).view(2, 3).t().contiguous())
    circle: list = [1]
    circle.append(circle)
    assert digest_of(circle) != digest_of([1])


# ---- the folder of another training --------------------------------------------------------------------------------


def refused(call, match):
    with pytest.raises(InputError, match=f"made with other settings.*{match}"):
        call()


def test_a_library_call_goes_on_with_its_own_arguments_only(tmp_path):
    def fit(data=None, **more):
        return SegmentationHead("linear", **QUICK).fit(data or toy(4), classes=CLASSES, folder=tmp_path / "w", **more)

    first = fit()
    assert torch.equal(fit().module_.classify.weight, first.module_.classify.weight)
    refused(lambda: fit(toy(4, seed=3)), "data: ")
    refused(lambda: fit(extra=Consistency(weight=5.0)), "further losses: ")
    refused(lambda: fit(start=filled(5)), "first weights: ")
    refused(lambda: fit(validation=toy(2)), "validation data: ")


def test_a_class_added_to_another_head_or_another_class(tmp_path):
    card = HeadCard(("a",), "x", "0", FeatureSpec(blocks=(-1, -2)), "linear", 8)
    olds = [make_head("linear", 2, 8, 2) for _ in range(2)]
    for old, bias in zip(olds, (5.0, -5.0), strict=True):
        with torch.no_grad():
            old.classify.bias.copy_(torch.tensor([0.0, bias]))

    def add(old, data, name="b"):
        return add_classes(old, card, data, classes=[name], training=QUICK, folder=tmp_path / "w")

    first = add(olds[0], toy(4))
    assert torch.equal(add(olds[0], toy(4)).module_.classify.bias, first.module_.classify.bias)
    refused(lambda: add(olds[1], toy(4)), "first weights: ")
    refused(lambda: add(olds[0], toy(4, seed=8), "c"), "data: ")


def test_schemes_go_on_after_rounding(tmp_path, monkeypatch):
    """What heads made again may differ in its last bits; round 2 goes on all the same, with the same round 1."""
    from clipseg_ws.heads import rounds

    run = partial(run_scheme, course("linear", toy(4), QUICK, folder=tmp_path), Spec("rounds"))
    first, real = run(), rounds.relabel

    def rounded(*given, **more):
        made = real(*given, **more)
        return Targets(made.labels, [np.maximum(c, 1) - 1 for c in made.confidence])

    monkeypatch.setattr(rounds, "relabel", rounded)
    assert torch.equal(run().module_.classify.weight, first.module_.classify.weight)


# ---- pictures and masks on disk ------------------------------------------------------------------------------------


def other_clip():
    model = tiny_clip()
    torch.manual_seed(99)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    root = tmp_path_factory.mktemp("disk")
    (root / "photos").mkdir()
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 1
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "photos" / f"p{i}.png")
        write_label_png(labels, root / "masks" / f"p{i}.png")
    return list_sources(str(root / "photos")), MaskFolder(root / "masks", ("cat",))


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield [Segmenter(backbone=OpenClipBackbone(clip), attention_blocks=2, refine="none")
               for clip in (tiny_clip(), other_clip())]  # fmt: skip


def train(segmenter, disk, work, *, tokens=None, folder=None, output=None, **recipe):
    recipe = Recipe(**{"kind": "linear", "blocks": (-1,), "validation": 0.0, "detail": 1} | recipe)
    return train_head(
        segmenter, disk[0], folder or disk[1], output or work.with_suffix(".safetensors"), recipe=recipe,
        training=TrainConfig.of(**QUICK), work=work, tokens=tokens,
    )  # fmt: skip


@pytest.mark.parametrize("augment", [False, True])
def test_another_model_does_not_go_on(disk, segmenters, tmp_path, augment):
    train(segmenters[0], disk, tmp_path / "w", tokens=tmp_path / "a", augment=augment)
    refused(lambda: train(segmenters[1], disk, tmp_path / "w", tokens=tmp_path / "b", augment=augment), "weights: ")


def test_another_old_head_does_not_go_on(disk, segmenters, tmp_path):
    backbone = segmenters[0].backbone
    card = HeadCard(("dog",), backbone.name, backbone.weights_sha256, LINEAR, "linear", backbone.width)
    for seed in (0, 1):
        save_head(tmp_path / f"old{seed}", filled(seed, "linear", 1, backbone.width, 2), card)
    train(segmenters[0], disk, tmp_path / "w", add_to=str(tmp_path / "old0"))
    refused(lambda: train(segmenters[0], disk, tmp_path / "w", add_to=str(tmp_path / "old1")), "first weights: ")
    (tmp_path / "old0").rename(tmp_path / "moved")
    train(segmenters[0], disk, tmp_path / "w", add_to=str(tmp_path / "moved"))


def test_masks_made_again_with_other_settings_or_words_are_others(disk, segmenters, tmp_path):
    feedback = {"scheme": "feedback(blocks=2)"}
    train(segmenters[0], disk, tmp_path / "w", **feedback)
    train(segmenters[0].variant(batch_size=2), disk, tmp_path / "w", **feedback)  # changes no answer
    other = segmenters[0].variant(alpha=3.0)
    refused(lambda: train(other, disk, tmp_path / "w", **feedback), "alpha of the masks made again: ")
    words = Vocabulary(("cat",), (("cat", "kitten"),), ("sky",))
    folder = replace(disk[1], words=words)
    other_words = partial(train, segmenters[0], disk, tmp_path / "w", folder=folder, **feedback)
    refused(other_words, "synonyms of the masks made again: ")
    train(other, disk, tmp_path / "plain")
    train(segmenters[0], disk, tmp_path / "plain")  # the weak setting is not read there


def test_words_of_a_folder_that_does_not_say(disk, segmenters):
    segmenter = segmenters[0].variant(background=["grass"])
    assert feedback_words(segmenter, disk[1]) == segmenter.vocabulary(["cat"])
