"""Votes against a loop over regions, their report, and the step at every size and in every answerer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import scene
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.config import resolve
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.regions.votes import answers_of, region_votes


def slow(scores, partition, by):
    out = scores.clone()
    for b in range(len(scores)):
        for region in set(partition[b].flatten().tolist()) - {-1}:
            here = partition[b] == region
            inside = scores[b][:, here]
            if by == "majority":
                inside = torch.nn.functional.one_hot(inside.argmax(0), len(inside)).t().float()
            out[b][:, here] = inside.mean(1)[:, None]
    return out


@pytest.mark.parametrize("by", ["mean", "majority"])
def test_votes_against_a_loop(by):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(2, 4, 9, 11, generator=generator)
    partition = torch.randint(-1, 6, (2, 9, 11), generator=generator)
    kept = scores.clone()
    assert torch.allclose(region_votes(scores, partition, by=by), slow(scores, partition, by), atol=1e-6)
    assert torch.equal(scores, kept)
    nothing = torch.full((2, 9, 11), -1)
    assert torch.equal(region_votes(scores, nothing, by=by), scores)
    every = torch.arange(99).view(1, 9, 11).expand(2, -1, -1)
    assert torch.equal(region_votes(scores, every, by=by).argmax(1), scores.argmax(1))


def test_votes_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="choose one of mean, majority"):
        region_votes(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64), by="most")
    with pytest.raises(ValueError, match=r"regions \[1, 3, 4\] do not fit the scores \[1, 2, 3, 3\]"):
        region_votes(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 4, dtype=torch.int64))


def test_the_report_tells_label_confidence_and_area():
    regions = RegionSet.from_masks(
        [np.array([[1, 1, 0], [1, 1, 0]], bool), np.array([[0, 1, 0], [0, 0, 0]], bool),
         np.array([[0, 1, 0], [0, 0, 0]], bool)], (2, 3),
    )  # fmt: skip
    found = answers_of(regions, np.array([[2, 1, 0], [2, 0, 0]]), np.full((2, 3), 0.5, np.float32))
    assert found.labels.tolist() == [2, 1, -1] and found.areas.tolist() == [3, 1, 0]
    assert np.allclose(found.confidence, [0.5, 0.5, 0])


@pytest.fixture(scope="module")
def nano() -> Segmenter:
    return Segmenter("nano", refine="none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scene, its picture on disk, and its true segments as regions."""
    root = tmp_path_factory.mktemp("regions")
    one = scene(3)
    Image.fromarray(one.image).save(root / "a.png")
    (root / "masks").mkdir()
    Image.fromarray(one.labels.astype(np.uint8)).save(root / "masks" / "a.png")
    return root, one


@pytest.mark.parametrize("method", ["default", "maskclip", "textregion"])
def test_pixels_of_a_region_get_one_answer(nano, folder, method):
    root, one = folder
    segment = nano.variant(method, regions=f"files:{root / 'masks'}", refine="none")
    result = segment(root / "a.png", classes="; ".join(one.tags))
    for value in np.unique(one.labels):
        assert len(np.unique(result.labels[one.labels == value])) == 1
    answers = result.extras["regions"]
    assert answers.areas.sum() == result.labels.size and (answers.labels >= 0).all()
    assert "votes" in str(result.config["steps"])


def test_large_pictures_have_crisp_regions(nano, folder):
    root, one = folder
    segment = nano.variant("default", regions=f"files:{root / 'masks'}", max_pixels=2000)
    result = segment(root / "a.png", classes="; ".join(one.tags))
    for value in np.unique(one.labels):
        counts = np.unique(result.labels[one.labels == value], return_counts=True)[1]
        assert counts.max() == counts.sum() or counts.sum() < 100  # a region below the working size keeps its pixels


def test_marks_are_never_contradicted_by_votes(nano, folder):
    from clipseg_ws import WeakLabels

    root, one = folder
    name = one.tags[0]
    segment = nano.variant("default", regions=f"files:{root / 'masks'}")
    y, x = (int(v[0]) for v in np.nonzero(one.labels == 0))
    result = segment(root / "a.png", classes="; ".join(one.tags), weak=WeakLabels(points=((name, x + 0.5, y + 0.5),)))
    assert result.labels[y, x] == one.tags.index(name) + 1


@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_no_region_one_and_many(nano, folder, tmp_path, count):
    root, one = folder
    labels = np.zeros((224, 224), np.int32)
    if count > 1:
        labels = (np.arange(224)[:, None] * 100 // 224 * 100 + np.arange(224) * 100 // 224).astype(np.int32)
    Image.fromarray(labels).save(tmp_path / "a.png") if count > 1 else Image.fromarray(labels.astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    rest = "(rest=0)" if not count else ""
    plain = nano.variant("default")(root / "a.png", classes="; ".join(one.tags))
    result = nano.variant("default", regions=f"files:{tmp_path}{rest}")(root / "a.png", classes="; ".join(one.tags))
    assert len(result.extras["regions"].regions) == count
    if not count:
        assert (result.labels == plain.labels).all()
    elif count == 1:
        assert len(np.unique(result.labels)) == 1
    else:
        assert (result.labels == plain.labels).mean() > 0.95


def test_regions_and_their_readers_belong_together():
    assert "votes" in [s.name for s in resolve("default", {"regions": "grow"}).steps]
    assert "votes" not in [s.name for s in resolve("default", {"regions": "grow", "region_affinity": True}).steps]
    assert resolve("default", {"votes": True}).regions == "grow"
    for given, match in (
        ({"regions": "grow", "votes": False}, "nothing that runs reads them"),
        ({"votes": True, "regions": "none"}, "there are none"),
        ({"regions": "superpixel"}, "did you mean 'superpixels'"), ({"regions": "grow(sides=3)"}, "no parameter"),
        ({"regions": "grow", "votes": {"by": "most"}}, "choose one of mean, majority"),
        ({"labeller": "sam2"}, "labeller 'sam2' is unknown"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            resolve("default", given)
    with pytest.raises(ValueError, match="dense_mode='textregion' reads regions"):
        resolve("textregion", {"regions": "none", "votes": False})
