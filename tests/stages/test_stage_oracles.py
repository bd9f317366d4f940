"""Stages against the same steps written out, and settings at their borders."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clipseg_ws import Segmenter, WeakLabels
from clipseg_ws.activations.dense import dense_embeddings
from clipseg_ws.activations.last_block import forward_last_block, pool_embedding
from clipseg_ws.config import resolve
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.refine.geodesic import colour_distances, geodesic_distances
from clipseg_ws.stages import by_words, examples
from clipseg_ws.stages.by_head import spread_winners, winners
from clipseg_ws.stages.classmaps import ClassMaps
from clipseg_ws.stages.constrain import apply_constraints, box_maps, constrained_label, spread_seeds
from clipseg_ws.stages.decide import Decision, decide_maps
from clipseg_ws.stages.labels import with_background
from clipseg_ws.stages.looks import all_looks, mirrored_marks
from clipseg_ws.stages.maps import target_rows
from clipseg_ws.stages.windows import picture_word_logits
from clipseg_ws.structures import Seen, TextEmbeddings, Tokens, Vocabulary
from clipseg_ws.weak.constraints import constraints

NAMES = ["cat", "dog", "sofa"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path))


def noise(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def marks_of(weak: WeakLabels, size=(12, 16)):
    return constraints(weak, NAMES, size)


def test_kept_maps_lie_on_their_own_classes():
    kept = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    made = Decision(np.zeros((3, 4)), np.ones((3, 4), np.float32), np.zeros(4, np.float32), [1, 3], kept).maps()
    assert np.array_equal(made[[1, 3]], kept) and not made[[0, 2]].any()


def test_boxes_stretch_a_map_from_a_seventh_and_the_larger_stays():
    maps = torch.rand(1, 12, 16)
    maps[0, 0:4, 0:4] = 0.3  # flat
    found = box_maps(maps, marks_of(WeakLabels(boxes=(("cat", 0, 0, 4, 4),))))
    assert torch.allclose(found[0, 0:4, 0:4], torch.tensor(0.15)) and not found[0, 4:].any()
    boxes = (("cat", 0, 0, 10, 10), ("cat", 5, 5, 16, 12))
    maps[0, :10, :10] *= 0.3  # so that the first box stretches more
    both = box_maps(maps, marks_of(WeakLabels(boxes=boxes)))
    alone = [box_maps(maps, marks_of(WeakLabels(boxes=(box,)))) for box in boxes]
    assert torch.allclose(both, torch.maximum(*alone)) and (alone[0] > alone[1])[0, 5:10, 5:10].any()


@pytest.mark.parametrize("plain", [False, True])
def test_the_distance_to_seeds_weighs_the_scores(plain):
    """On plain ground all is near, and labels without a seed are a tenth away."""
    image = torch.from_numpy(noise(12, 16) * (not plain)).permute(2, 0, 1)
    marks = marks_of(WeakLabels(points=(("cat", 3, 3), ("background", 12, 9))))
    scores = torch.rand(4, 12, 16)
    distance = geodesic_distances(marks.seed, image, 4) + 0.01 * colour_distances(marks.seed, image, 4)
    want = torch.zeros(4, 12, 16)
    for y in range(12):
        for x in range(16):
            near = max(float(distance[:, y, x].min()), 0.1)
            d = torch.tensor([float(v) if torch.isfinite(v) else near for v in distance[:, y, x]])
            weights = (scores[:, y, x] + 0.05) * torch.exp(-d / 0.8)
            want[:, y, x] = weights / weights.sum()
    assert torch.allclose(spread_seeds(scores, image, marks), want, atol=1e-5)


def picture_of(array: np.ndarray) -> Picture:
    return Picture(Image.fromarray(array), None, ((3, 4),), torch.zeros(3, 48, 64))


def test_marks_are_spread_before_the_decision():
    array, config = noise(), resolve("default", {"refine": "none"})
    maps = ClassMaps(torch.tensor([[0, 2]]), torch.rand(1, 2, 48, 64), torch.zeros(1, 3), None)
    weak = WeakLabels(("cat", "sofa"), points=(("sofa", 20, 20), ("background", 50, 10)))
    marks = marks_of(weak, (48, 64))
    (got,) = decide_maps([picture_of(array)], maps, config, [marks])
    own = marks.select([0, 2])
    scores = with_background(box_maps(maps.maps[0], own)[None], config.background_rule, alpha=config.alpha)
    spread = spread_seeds(scores[0], torch.from_numpy(array).permute(2, 0, 1), own)[None]
    labels, confidence = constrained_label(apply_constraints(spread, own), own)
    assert np.allclose(got.confidence, confidence[0]) and (got.confidence[20, 20], got.labels[20, 20]) == (1, 3)
    assert np.array_equal(got.labels, np.array([0, 1, 3])[labels[0].numpy()])
    plain, _ = constrained_label(apply_constraints(scores, own), own)
    assert (plain != labels).float().mean() > 0.02


def test_words_below_the_threshold_are_background_beside_marks_too(tiny_backbone):
    segment = Segmenter(
        backbone=tiny_backbone, method="maskclip", short_side=None, window=0, background_threshold=0.999, refine="none"
    )
    found = segment(noise(), classes=NAMES, weak=WeakLabels(points=(("background", 3, 3),)))
    assert not found.labels.any()
    low = segment.variant(background_threshold=0.0)
    assert low(noise(), classes=NAMES, weak=WeakLabels(points=(("background", 3, 3),))).labels.any()


def test_only_words_that_win_somewhere_are_refined(tiny_backbone, monkeypatch):
    seen = []

    def caught(logits, pictures, config, channels=None):
        seen.append((logits, channels))
        return logits

    monkeypatch.setattr(by_words, "refined", caught)
    segment = Segmenter(
        backbone=tiny_backbone, method="maskclip", short_side=None, window=0, refine="pamr", templates="plain"
    )
    segment([noise(seed=i) for i in range(2)], classes=[f"thing {i}" for i in range(30)])
    ((logits, channels),) = seen
    for b in range(2):
        assert sorted(logits[b].argmax(0).unique().tolist()) == channels[b].nonzero().flatten().tolist()
    assert not channels.all()


def test_tokens_of_other_positions_are_not_taken_from_the_cache(tiny_backbone):
    segment = Segmenter(backbone=tiny_backbone, attention_blocks=2, refine="none", cache_mb=50)
    question, picture = segment.ask(NAMES), noise(80, 112)
    tags = [["cat", "dog"]]
    plain = segment.answer(question, [picture], tags=tags)[0]
    for change in ({"position_interpolation": "bilinear"}, {"attention_blocks": 3}, {"short_side": 96}):
        twin = segment.variant(**change)
        fresh = Segmenter(backbone=tiny_backbone, **{"attention_blocks": 2, "refine": "none"} | change)
        got, want = (one.answer(one.ask(NAMES), [picture], tags=tags)[0] for one in (twin, fresh))
        assert np.allclose(got.confidence, want.confidence, atol=1e-5), change
        assert not np.allclose(got.confidence, plain.confidence, atol=1e-6), change


def test_mirrored_looks_are_mirrored_back():
    config = resolve("default", {"looks": {"scales": (1.0,), "flip": True}})
    maps = torch.rand(1, 2, 3, 5)

    def look(how, present):
        return ClassMaps(torch.tensor([[0, 1]]), maps.flip(-1) if how[1] else maps, torch.ones(1, 2), None)

    flat = maps.flatten(2)
    low, high = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True)
    assert torch.allclose(all_looks(look, None, config).maps, ((flat - low) / (high - low)).view_as(maps), atol=1e-5)


def test_marks_in_the_mirrored_picture():
    weak = WeakLabels(("cat", "dog"), (("cat", 2, 3, 6, 8),), (("dog", 12, 1),))
    mirrored = WeakLabels(("cat", "dog"), (("cat", 10, 3, 14, 8),), (("dog", 3, 1),))
    ((got,), want) = mirrored_marks([marks_of(weak)]), marks_of(mirrored)
    assert torch.equal(got.allow, want.allow) and torch.equal(got.seed, want.seed)
    assert got.boxes == want.boxes and got.present == want.present


def test_a_class_is_represented_by_its_best_synonym(tiny_backbone):
    tokens = tiny_backbone.encode(torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0)))
    block = forward_last_block(tiny_backbone, tokens.last_input, tokens.last)
    whole = F.normalize(pool_embedding(tiny_backbone, block.out, "patch"), dim=-1)
    near, far = whole[0], -whole[0]
    vectors = torch.stack([far, near, whole[1], far, -whole[1], near])
    words = Vocabulary(("a", "b"), (("a", "aa"), ("b", "bb", "bbb")), ("x",))
    text = TextEmbeddings(vectors, torch.tensor([0, 0, 1, 1, 1, -1]), words)
    got = target_rows(tiny_backbone, block, text, torch.tensor([[0, 1], [1, -1]]), "patch")
    want = [
        [max(rows, key=lambda t: float(whole[b] @ vectors[t])) if rows else -1 for rows in own]
        for b, own in enumerate([[[0, 1], [2, 3, 4]], [[2, 3, 4], []]])
    ]
    assert got.tolist() == want and got[0, 0] == 1


def test_a_heads_absent_classes_share_their_probability_out():
    scores = torch.rand(1, 4, 2, 3).softmax(1)
    scores[0, :, 0, 0] = torch.tensor([0.1, 0.2, 0.6, 0.1])
    allowed = torch.tensor([[True, False, True]])
    found = winners(scores, allowed)
    kept = scores[0, [0, 1, 3]]
    kept = kept / kept.sum(0)
    assert found.classes[0].tolist()[0] == 0 and torch.allclose(found.maps[0, 0], kept[1])
    assert torch.allclose(found.background[0], kept[0])


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_a_heads_map_and_its_spread_are_mixed_by_their_share(share, monkeypatch):
    maps, ground = torch.rand(1, 2, 4, 6), torch.rand(1, 4, 6)
    spread = torch.rand(1, 2, 4, 6)
    monkeypatch.setattr("clipseg_ws.stages.by_head.spread_maps", lambda small, *_, **__: spread)
    tokens = Tokens(torch.zeros(1, 25, 8), None, {}, (4, 6))
    given = ClassMaps(torch.tensor([[0, 1]]), maps, torch.ones(1, 2), ground)
    config = resolve("default", {"head_affinity": share})
    got = spread_winners(given, Seen(tokens, given.classes), config, None)
    both = spread**share * maps ** (1 - share)
    total = both.sum(1) + ground
    assert torch.allclose(got.maps, both / total[:, None], atol=1e-6)
    assert torch.allclose(got.background, ground / total, atol=1e-6)


def test_memory_is_bounded_by_windows_or_by_the_number_of_patches(tiny_backbone):
    whole = Segmenter(backbone=tiny_backbone, method="maskclip", short_side=None, window=0, max_patches=12)
    height, width = whole.answerer.encoder.grid((640, 480))
    assert height * width <= 12 * 16**2 and height * width > 8 * 16**2
    cut = Segmenter(backbone=tiny_backbone, method="maskclip", short_side=None, window=64, max_patches=12)
    assert cut.answerer.encoder.grid((640, 480)) == (480, 640)


def test_windows_are_padded_on_both_sides(tiny_backbone):
    """ClearCLIP: a window of 20 pixels becomes one of 32 with 6 pixels of zeros round it."""
    segment = Segmenter(backbone=tiny_backbone, method="clearclip", short_side=None, window=20, stride=20)
    picture = segment.prepare(noise(20, 20))
    text = F.normalize(torch.randn(4, tiny_backbone.embed_dim), dim=-1)
    got = picture_word_logits(segment.answerer.encoder, [picture], text)
    seen = torch.zeros(1, 3, 32, 32)
    seen[..., 6:26, 6:26] = picture.pixels
    patches = dense_embeddings(segment.backbone, segment.backbone.encode(seen, attention_blocks=0), "clearclip")
    logits = torch.einsum("bhwe,te->bthw", patches.float(), text)
    large = F.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.allclose(got, large[..., 6:26, 6:26], atol=1e-4)


@pytest.mark.parametrize("weight", [0.25, 0.8])
def test_presence_of_names_and_examples_is_a_weighted_geometric_mean(weight, monkeypatch):
    """So is the limit; a class with a name alone keeps both of its name."""
    said = torch.tensor([[0.9, 0.2, 0.5]])
    monkeypatch.setattr(examples, "find_present", lambda *_, **__: (said, said > 2))
    given = {"fewshot": {"text_weight": weight, "presence_threshold": 0.6}, "presence_threshold": 0.3}
    config = resolve("default", given)
    few = SimpleNamespace(presence=torch.tensor([[0.4, 0.8]]))
    query, asked = SimpleNamespace(tokens=1, backbone=None), SimpleNamespace(own=(0, 2), count=3, text=1)
    scores, kept = examples._presence(query, asked, config, few)
    want = [0.4 ** (1 - weight) * 0.9**weight, 0.2, 0.8 ** (1 - weight) * 0.5**weight]
    assert scores[0].tolist() == pytest.approx(want)
    both = 0.6 ** (1 - weight) * 0.3**weight
    assert kept[0].tolist() == [want[0] >= both, False, want[2] >= both]
    at = config.fewshot.presence_threshold ** (1 - weight) * 0.3**weight
    edge = at ** (1 / (1 - weight)) / 0.3 ** (weight / (1 - weight))  # the examples' score that just reaches it
    monkeypatch.setattr(examples, "find_present", lambda *_, **__: (torch.full((1, 3), 0.3), said > 2))
    for factor, there in ((1.02, True), (0.98, False)):
        few = SimpleNamespace(presence=torch.tensor([[edge * factor, edge * factor]]))
        assert examples._presence(query, asked, config, few)[1][0].tolist() == [there, True, there]
