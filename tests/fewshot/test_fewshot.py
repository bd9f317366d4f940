"""Matching with examples: the composed matcher, and the Segmenter with ``supports=``."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn import iou, scene, shown
from PIL import Image

from clipseg_ws import Segmenter, Support, WeakLabels
from clipseg_ws.backbones.features import FeatureBackbone
from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.fewshot.bank import BankError, SupportBank, load_bank
from clipseg_ws.fewshot.encoding import encode_bank
from clipseg_ws.fewshot.matcher import FewShotMatcher
from clipseg_ws.fewshot.options import FewShotConfig, make_config
from clipseg_ws.fewshot.prepared import _inner as inner
from clipseg_ws.fewshot.prepared import join_kinds
from clipseg_ws.fewshot.supports import SupportError
from clipseg_ws.registry import Spec

PLAIN = FewShotConfig(prior=0.0, refit="none")


@pytest.fixture(scope="module")
def segment():
    return Segmenter("nano", dtype="float32", short_side=224)


# scenes: 1 house, car, sun; 2 boat; 3 car, sun, flower, umbrella; 5 boat; 6 car; 0 sun, flower, balloon, butterfly


@pytest.fixture(scope="module")
def bank(segment) -> SupportBank:
    return segment.bank([shown(0, "sun"), shown(1, "sun"), shown(2, "boat"), shown(1, "car")])


def random_bank(backbone, sizes=((70, 50), (90, 64), (70, 50))) -> SupportBank:
    rng = np.random.default_rng(3)
    supports = []
    for i, (width, height) in enumerate(sizes):
        mask = np.zeros((height, width), np.uint8)
        mask[8:30, 10 : 40 + i] = 1
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        supports.append(Support(image, mask, "cat" if i < 2 else "dog"))
    return encode_bank(backbone, supports, kinds=("input", "values"))


def test_plain_matching_is_panet(tiny_backbone):
    bank = random_bank(tiny_backbone)
    features = torch.randn(2, 64, 3, 5, generator=torch.Generator().manual_seed(0))
    got = FewShotMatcher(bank, PLAIN)({"input": features}).probabilities
    vectors = {"cat": [], "dog": []}
    grounds = {"cat": [], "dog": []}
    for entry in bank.entries:
        f = F.normalize(entry.features["input"].float(), dim=0).flatten(1)
        for weights, kept in ((entry.foreground, vectors), (entry.background, grounds)):
            kept[entry.label].append(F.normalize((f * weights.flatten()).sum(1), dim=0))
    means = [torch.stack(v).mean(0) for v in vectors.values()]
    ground = torch.stack([torch.stack(v).mean(0) for v in grounds.values()]).mean(0)
    cells = F.normalize(features, dim=1)
    logits = torch.stack([torch.einsum("bdhw,d->bhw", cells, F.normalize(v, dim=0)) for v in [ground, *means]], 1)
    torch.testing.assert_close(got, (20 * logits).softmax(1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"prior": 0.3, "refit": "prototypes(rounds=1)"},
        {"refit": "classifier"},
        {"steps": (Spec("parts", (("count", 3), ("background", 2))),)},
        {"steps": (Spec("crossref"),)},
        {"steps": (Spec("alignment"),)},
        {"steps": (Spec("vote"),)},
        {"kinds": ("input", "values")},
    ],
)
def test_every_switch_gives_distributions_that_do_not_depend_on_the_batch(tiny_backbone, change):
    bank = random_bank(tiny_backbone)
    matcher = FewShotMatcher(bank, replace(PLAIN, **change))
    generator = torch.Generator().manual_seed(1)
    features = {"input": torch.randn(3, 64, 3, 5, generator=generator), "values": torch.randn(3, 32, 3, 5)}
    together = matcher(features)
    torch.testing.assert_close(together.probabilities.sum(1), torch.ones(3, 3, 5))
    assert together.presence.shape == (3, 2) and 0 <= together.presence.min() <= together.presence.max() <= 1
    for i in range(3):
        alone = matcher({kind: value[i : i + 1] for kind, value in features.items()})
        torch.testing.assert_close(alone.probabilities, together.probabilities[i : i + 1], rtol=0, atol=1e-5)
    plain = FewShotMatcher(bank, PLAIN)(features).probabilities
    if change != {"alignment": True}:  # one support each counts fully however it is weighed
        assert not torch.allclose(plain, together.probabilities, atol=1e-4)
    if "alignment" in change:
        assert together.alignment.shape == (3, 3) and len(together.supports) == 3


def test_focus_makes_the_other_classes_background(tiny_backbone):
    bank = random_bank(tiny_backbone)
    features = {"input": torch.randn(2, 64, 3, 5, generator=torch.Generator().manual_seed(0))}
    everything = FewShotMatcher(bank, PLAIN)(features).probabilities
    cat = FewShotMatcher(bank.focus(["cat"]), PLAIN)(features)
    assert cat.labels == ("cat",)
    torch.testing.assert_close(cat.probabilities[:, 1], everything[:, 1])
    torch.testing.assert_close(cat.probabilities[:, 0], everything[:, 0] + everything[:, 2])


def test_configuration_is_checked():
    assert make_config({"kinds": ["input", "keys"]}).kinds == ("input", "keys")
    for values, message in [
        ({"parts": 3}, "'parts' is unknown"),
        ({"refit": "magic"}, "refit 'magic' is unknown"),
        ({"refit": "prototypes(sure=1.5)"}, "sure=1.5"),
        ({"refit": "prototypes(ridge=1)"}, "no parameter 'ridge'"),
        ({"refit": "classifier(ridge=0)"}, "ridge=0.0"),
        ({"kinds": "input"}, "a list of features"),
        ({"kinds": ["layer:x"]}, "block index"),
        ({"scale": -1.0}, "scale=-1.0"),
        ({"prior": "much"}, "a finite number is needed"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_config(values)
    segment = Segmenter("nano", **{"fewshot.prior": 0.1}, fewshot={"refit": "none"}, parts={"count": 2})
    assert (segment.config.fewshot.prior, str(segment.config.fewshot.refit)) == (0.1, "none")
    assert segment.config.fewshot.step("parts").get("count") == 2
    twin = segment.variant(**{"fewshot.scale": 10.0})
    assert (twin.config.fewshot.prior, twin.config.fewshot.scale) == (0.1, 10.0)
    assert json.loads(json.dumps(twin.config.as_dict()))["fewshot"]["kinds"] == ["input"]
    with pytest.raises(ValueError, match="'priors' is unknown"):
        Segmenter("nano", **{"fewshot.priors": 3})


def test_one_example_finds_the_thing_and_says_where_it_is_not(segment):
    (found, absent) = segment([scene(5).image, scene(6).image], supports=shown(2, "boat"))
    assert found.names == ("boat",) and found.setting == "few"
    assert iou(found.mask("boat"), 5, "boat") > 0.7
    assert absent.scores["boat"] < 0.4 and not absent.mask("boat").any()


def test_unnamed_examples_names_alone_and_both(segment, bank):
    s = scene(2)
    unnamed = Support(s.image, (s.labels == KINDS.index("boat") + 1).astype(np.uint8))
    assert iou(segment(scene(5).image, supports=unnamed).mask("object"), 5, "boat") > 0.7
    named = segment(scene(5).image, classes="boat", supports=unnamed)
    assert iou(named.mask("boat"), 5, "boat") > 0.7
    both = segment(scene(3).image, classes="sun; car; umbrella", supports=bank)  # the umbrella has a name only
    assert both.scores["umbrella"] > 0 and iou(both.mask("umbrella"), 3, "umbrella") > 0.4
    assert both.config["supports"] == {"sun": 2, "car": 1, "boat": 1}


def test_name_and_example_are_the_weighted_geometric_mean(segment):
    picture, support = scene(5).image, shown(2, "boat")

    def maps(**given):
        twin = segment.variant(refine="none", keep_maps=True, presence=False, **given)
        return twin(picture, classes="boat", supports=support).extras["maps"]

    alone, text, both = maps(**{"fewshot.text_weight": 0.0}), maps(**{"fewshot.text_weight": 1.0}), maps()
    assert np.abs(alone - text).max() > 0.05
    inside = (alone > 0.2) & (text > 0.2)  # enlarged after they were joined: not exact between cells
    expected = alone**0.3 * text**0.7
    assert np.abs(both - expected)[inside].mean() < 0.02


def test_with_tags_boxes_and_points_nothing_contradicts_them(segment, bank):
    picture = scene(3).image
    tagged = segment(picture, tags=["sun"], supports=bank)
    assert set(np.unique(tagged.labels)) <= {0, tagged.names.index("sun") + 1}
    box = ("car", 20, 100, 120, 200)
    weak = WeakLabels(boxes=(box,), points=(("sun", 200, 20),))
    marked = segment(picture, classes="sun; car; boat", supports=bank, weak=weak)
    outside = np.ones((224, 224), bool)
    outside[100:200, 20:120] = False
    assert not (marked.mask("car") & outside).any() and marked.mask("sun")[20, 200]


def test_batches_give_what_single_pictures_give(segment, bank):
    pictures = [scene(i).image for i in (3, 5, 6)] + [scene(4).image[:160]]  # two grids
    together = segment(pictures, supports=bank)
    for picture, result in zip(pictures, together, strict=True):
        alone = segment(picture, supports=bank)
        assert (alone.labels == result.labels).mean() > 0.999  # rounding decides equal scores
        assert alone.scores == pytest.approx(result.scores, abs=1e-4)
        assert np.abs(alone.confidence - result.confidence).max() < 1e-3


def test_supports_with_a_label_only(segment):
    result = segment(scene(5).image, supports=[shown(2, "boat", masked=False)])
    assert result.setting == "weak-few" and iou(result.mask("boat"), 5, "boat") > 0.6
    bank = segment.bank([shown(2, "boat", masked=False), shown(1, "car")])
    assert [e.predicted for e in bank.entries] == [True, False]
    assert float(bank.entries[0].foreground.max()) < 1.0  # weighed by confidence
    with pytest.raises(SupportError, match="neither mask nor label"):
        segment.bank(Support(scene(2).image))


def test_a_labelled_support_without_a_decided_pixel_gives_the_best_of_its_map(segment):
    shy = segment.variant(alpha=0.01)  # the background wins everywhere
    assert not shy(scene(2).image, tags=["boat"]).mask("boat").any()
    (entry,) = shy.bank(shown(2, "boat", masked=False)).entries
    assert entry.predicted and 0.1 < float(entry.foreground.max()) <= 0.5


def test_known_words_take_their_own_pixels(segment):
    twin = segment.variant(known="; ".join(KINDS), **{"fewshot.kinds": ["input", "values"]})
    plain = segment(scene(3).image, supports=shown(0, "sun"), classes=None)
    other = twin(scene(3).image, supports=shown(0, "sun"))
    assert iou(other.mask("sun"), 3, "sun") > 0.6 and iou(plain.mask("sun"), 3, "sun") > 0.6
    assert not np.array_equal(plain.confidence, other.confidence)


def test_alignment_is_reported(segment):
    twin = segment.variant(alignment=True)
    wrong = Support(scene(6).image, (scene(6).labels == 0).astype(np.uint8), "boat")  # a background as "boat"
    result = twin(scene(5).image, supports=[shown(2, "boat"), wrong])
    (first, good), (second, bad) = result.extras["supports"]
    assert (first, second) == ("boat 1", "boat 2") and good > bad


def test_errors(segment, bank, tiny_backbone, tmp_path):
    picture = scene(3).image
    small = np.zeros((224, 224), np.uint8)
    with pytest.raises(SupportError, match="empty"):
        segment(picture, supports=Support(picture, small, "cat"))
    with pytest.raises(SupportError, match="224x100 pixels, the picture 224x224"):
        segment(picture, supports=Support(picture, small[:100] + 1, "cat"))
    with pytest.raises(SupportError, match="no supports were given"):
        segment(picture, supports=[])
    with pytest.raises(BankError, match="none of which is among the classes dragon"):
        segment(picture, classes="dragon", supports=bank)
    with pytest.raises(BankError, match=r"no supports for 'dragon'.*the bank holds sun \(2\)"):
        segment.variant(**{"fewshot.text_weight": 0.0})(picture, classes="sun; dragon", supports=bank)
    with pytest.raises(BankError, match="other weights"):
        segment(picture, supports=random_bank(tiny_backbone))
    with pytest.raises(ValueError, match="takes no supports"):
        segment.variant("sclip", position_interpolation="bicubic")(picture, supports=bank)
    with pytest.raises(FileNotFoundError, match="no support bank"):
        segment(picture, supports=tmp_path / "none.safetensors")
    file = bank.save(tmp_path / "bank.safetensors")
    assert load_bank(file, segment.backbone).shots() == {"sun": 2, "boat": 1, "car": 1}
    assert np.array_equal(segment(picture, supports=file).labels, segment(picture, supports=bank).labels)


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
def test_other_features_match_and_spread_on_their_own_grid(kind, tiny_backbone):
    import transformers as tf

    torch.manual_seed(0)
    sides = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
    if kind == "dinov2":
        model = tf.Dinov2Model(tf.Dinov2Config(patch_size=14, **sides))
    else:
        model = tf.DINOv3ViTModel(tf.DINOv3ViTConfig(patch_size=8, intermediate_size=64, **sides))
    features = FeatureBackbone(model, name=f"tiny-{kind}")
    segment = Segmenter(
        backbone=tiny_backbone, features=features, presence=False, keep_maps=True, **{"fewshot.refit": "none"}
    )
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 200, (5, 7, 3), dtype=np.uint8) for _ in range(2)]
    pictures = [
        np.asarray(Image.fromarray(s).resize(size)) for s, size in zip(small, ((70, 50), (71, 49)), strict=True)
    ]
    pictures = [picture.copy() for picture in pictures]
    mask = np.zeros((50, 70), np.uint8)
    mask[10:40, 20:50] = 1
    pictures[0][mask == 1] = 255 - pictures[0][mask == 1] // 8
    bank = segment.bank(Support(pictures[0], mask, "cat"))
    assert bank.model == f"tiny-{kind}" and bank.weights_sha256 == features.weights_sha256
    assert bank.entries[0].foreground.shape == ((4, 5) if kind == "dinov2" else (7, 9))
    by_examples = segment(pictures, supports=bank)
    for picture, result in zip(pictures, by_examples, strict=True):
        assert result.labels.shape == picture.shape[:2]
        alone = segment(picture, supports=bank)
        gap = np.abs(alone.extras["maps"] - result.extras["maps"])
        assert gap.max() < 0.05  # the boxes of the affinity are cut at 8-bit levels: rounding may move one cell
    assert by_examples[0].mask("cat")[15:35, 25:45].mean() > 0.5  # the support itself
    named = segment(pictures[0], classes="cat; dog", supports=bank)
    assert named.extras["maps"].shape == (2, 50, 70) and named.config["features"] == f"tiny-{kind}"
    with pytest.raises(BankError, match="other weights"):
        Segmenter(backbone=tiny_backbone)(pictures[0], supports=bank)


def test_the_cosine_of_joined_kinds_is_the_mean_of_theirs():
    """MSANet's several depths: matching the joined vectors averages what each kind says."""
    generator = torch.Generator().manual_seed(0)
    query, support = (
        {kind: torch.randn(2, width, 3, 4, generator=generator) for kind, width in (("a", 6), ("b", 9))}
        for _ in range(2)
    )
    joined = [join_kinds(features, ("a", "b")) for features in (query, support)]
    each = [(F.normalize(query[kind], dim=1) * F.normalize(support[kind], dim=1)).sum(1) for kind in ("a", "b")]
    torch.testing.assert_close((joined[0] * joined[1]).sum(1), torch.stack(each).mean(0))
    torch.testing.assert_close(joined[0].norm(dim=1), torch.ones(2, 3, 4))


def slow_votes(bank, features, labels) -> torch.Tensor:
    """[1+K, h, w] the label that most supports see decides: shares by hand, and what is left for the background."""
    cells = F.normalize(features[0].float(), dim=0).flatten(1)
    shares = torch.zeros(len(labels), cells.shape[1])
    for k, label in enumerate(labels):
        counts = torch.zeros(cells.shape[1])
        for entry in bank.entries:
            if entry.label != label:
                continue
            f = F.normalize(entry.features["input"].float(), dim=0).flatten(1)
            pooled = [F.normalize((f * w.flatten()).sum(1), dim=0) for w in (entry.foreground, entry.background)]
            counts += (cells.T @ pooled[0] > cells.T @ pooled[1]).float()
        shares[k] = counts / counts.max().clamp_min(1)
    return shares


def test_half_of_the_votes_are_enough(tiny_backbone):
    bank = random_bank(tiny_backbone, [(70, 50)] * 2 + [(90, 64)] * 3)
    bank = replace(bank, entries=tuple(replace(e, label="cat") for e in bank.entries[:4]) + bank.entries[4:])
    features = torch.randn(1, 64, 5, 6, generator=torch.Generator().manual_seed(2))
    found = FewShotMatcher(bank, replace(PLAIN, steps=(Spec("vote", ()),)))({"input": features}).probabilities[0]
    want = slow_votes(bank, features, bank.labels).view(2, 5, 6)
    alone = want[1] == 0
    half, less = alone & (want[0] == 0.5), alone & (want[0] < 0.5)
    assert half.any() and less.any()
    winner = found.argmax(0)
    assert (winner[half] == 1).all() and (winner[less] == 0).all() and (winner[want.amax(0) > 0.5] > 0).all()


@pytest.mark.parametrize(
    ("shares", "kept"),
    [
        ([0.6, 0.4, 0.5], [0.6, 0.0, 0.5]),
        ([0.49, 0.3, 0.0], [0.49, 0.3, 0.0]),
        ([0.2, 0.2], [0.2, 0.2]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0], [1.0]),
        ([0.9, 0.4, 0.4, 0.4], [0.9, 0.0, 0.0, 0.0]),
    ],
)
def test_thin_things_keep_all_their_cells(shares, kept):
    assert inner(torch.tensor(shares)).tolist() == pytest.approx(kept)


@pytest.mark.parametrize("more", [{}, {"steps": (Spec("parts", (("count", 3), ("background", 3))),)}, {"prior": 0.5}])
def test_one_inner_cell_is_enough(tiny_backbone, more):
    """A thing a cell and a half wide has one cell of its own: parts and the dense prior then go by that one alone."""
    bank = random_bank(tiny_backbone)
    entries, place = [], (1, 1)
    for entry in bank.entries:
        foreground = torch.zeros_like(entry.foreground)
        foreground[0:3, 0:3] = 0.4
        foreground[place] = 1.0
        entries.append(replace(entry, foreground=foreground, background=1 - foreground))
    bank = replace(bank, entries=tuple(entries))
    query = torch.stack([bank.entries[i].features["input"].float() for i in (0, 2)])
    found = FewShotMatcher(bank, replace(PLAIN, **more))({"input": query}).probabilities
    assert torch.isfinite(found).all()
    assert found[0, :, 1, 1].argmax() == 1 + bank.labels.index("cat")
    assert found[1, :, 1, 1].argmax() == 1 + bank.labels.index("dog")
