"""SAM against transformers' own pipeline on small random weights: points, stability, suppression; and prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from small_sam import saved_sam, small_sam

from clipseg_ws.backbones.errors import UnsupportedBackbone, WeightsNotFound
from clipseg_ws.regions.cut import Cutter
from clipseg_ws.regions.sam_grid import automatic, grid_regions, point_grid, stability_of
from clipseg_ws.regions.sam_model import Sam, load_sam
from clipseg_ws.regions.sam_words import Concepts, Labeller, concept_maps, fused, load_concepts

PICTURE = (np.random.default_rng(0).random((40, 56, 3)) * 255).astype(np.uint8)
needs_hq = pytest.mark.skipif(not hasattr(transformers, "SamHQModel"), reason="transformers without SAM-HQ")


@pytest.mark.parametrize("kind", ["sam", pytest.param("sam_hq", marks=needs_hq)])
@pytest.mark.parametrize(("pred_iou", "stability", "nms"), [(0.0, 0.0, 0.999), (1.2, 0.6, 0.97), (0.0, 0.7, 0.7)])
def test_the_grid_finds_what_the_pipeline_finds(kind, pred_iou, stability, nms):
    model, processor = small_sam(kind)
    pipeline = transformers.pipeline("mask-generation", model=model, image_processor=processor)
    expected = pipeline(
        Image.fromarray(PICTURE), points_per_crop=6, points_per_batch=8, pred_iou_thresh=pred_iou,
        stability_score_thresh=stability, crops_nms_thresh=nms,
    )  # fmt: skip
    got = grid_regions(
        Sam(model, processor), PICTURE, points=6, pred_iou=pred_iou, stability=stability, offset=1.0, nms=nms
    )
    masks = [np.asarray(mask) > 0 for mask in expected["masks"]]
    assert len(got) == len(masks) and (kind != "sam" or nms < 0.99 or len(got) > 5)
    assert all((a == b).all() for a, b in zip(got.masks(), masks, strict=True))
    assert np.allclose(got.scores, np.asarray(expected["scores"]), atol=1e-5)


def test_points_and_stability():
    grid = point_grid(3)
    assert torch.allclose(grid[:4], torch.tensor([[1, 1], [3, 1], [5, 1], [1, 3]]) / 6)
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[-3.0, -3.0, -3.0, -3.0]]])
    assert stability_of(logits, 1.0).tolist() == [pytest.approx(1 / 3), 0.0]


def test_prompts_are_in_pixels_of_the_picture():
    """A point in the middle reaches the network where the pipeline's processor puts it; each prompt changes masks."""
    model, processor = small_sam()
    sam = Sam(model, processor)
    seen = sam.embed(PICTURE)
    assert seen.network == (46, 64) and seen.side == 64
    moved = sam._to_network(seen, torch.tensor([[[28.0, 20.0]]]))
    assert torch.allclose(moved, torch.tensor([[[32.0, 23.0]]]))
    point = torch.tensor([[[28.0, 20.0]]])
    ready = processor(images=[PICTURE], return_tensors="pt")
    direct = model(**{"pixel_values": ready["pixel_values"]}, input_points=moved[None])
    low, quality = sam.decode(seen, points=point)
    assert torch.allclose(low, direct.pred_masks[0], atol=1e-4)
    assert torch.allclose(quality, direct.iou_scores[0], atol=1e-4)
    boxed, _ = sam.decode(seen, points=point, boxes=torch.tensor([[2.0, 3.0, 40.0, 30.0]]))
    masked, _ = sam.decode(seen, points=point, mask=torch.zeros(40, 56))
    outside, _ = sam.decode(seen, points=point, labels=torch.zeros(1, 1))
    assert all(not torch.allclose(low, other) for other in (boxed, masked, outside))
    assert sam.enlarge(seen, low).shape == (1, 3, 40, 56)


def test_a_folder_is_loaded_once_and_its_regions_are_cached(tmp_path, monkeypatch):
    repo = saved_sam(tmp_path / "sam")
    assert load_sam(repo) is load_sam(repo)
    settings = "points=4, pred_iou=0, stability=0, nms=0.99"
    cutter = Cutter(f"sam:{repo}({settings})", tmp_path / "cache", offline=True)
    cutter.prepare()
    found = cutter(Image.fromarray(PICTURE))
    direct = grid_regions(load_sam(repo), PICTURE, points=4, pred_iou=0, stability=0, offset=1.0, nms=0.99)
    assert len(found) == len(direct) > 0 and (found.partition() == direct.partition()).all()
    again = Cutter(f"sam:{repo}({settings})", tmp_path / "cache", offline=True)
    assert len(again(Image.fromarray(PICTURE))) == len(found) and again.cuts == 0
    small = automatic(PICTURE, repo=repo, points=3, pred_iou=0, stability=0, max_side=28)
    assert small.size == (40, 56)


def test_what_is_no_sam_is_said(tmp_path, monkeypatch):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    CLIPVisionModel(config).save_pretrained(tmp_path / "clip")
    with pytest.raises(UnsupportedBackbone, match="a SAM is needed: sam, sam_hq"):
        load_sam(str(tmp_path / "clip"))
    with pytest.raises(WeightsNotFound, match="offline mode"):
        load_sam("nobody/nothing", offline=True)
    with pytest.raises(ValueError, match="points from 1"):
        automatic(PICTURE, repo="x", points=0)
    repo = saved_sam(tmp_path / "old", seed=1)
    monkeypatch.setattr("clipseg_ws.regions.sam_model.KINDS", {"sam": "NewSamModel"})
    with pytest.raises(UnsupportedBackbone, match="has no NewSamModel; install a newer one"):
        load_sam(repo)


def test_named_masks_are_fused_by_score(monkeypatch):
    class Answering:
        """Stands for SAM 3: what the processor gives out for each word."""

        def parameters(self):
            return iter([torch.zeros(1)])

        def __call__(self, word):
            return word

    class Processor:
        def __call__(self, images, text, return_tensors):
            class Ready(dict):
                def to(self, device):
                    return self

            return Ready(word=text)

        def post_process_instance_segmentation(self, out, threshold, mask_threshold, target_sizes):
            masks = torch.zeros(2, *target_sizes[0], dtype=torch.bool)
            masks[0, :2], masks[1, 1:] = out == "dog", out == "dog"
            scores = torch.tensor([0.9, 0.5])
            kept = scores >= threshold
            return [{"masks": masks[kept], "scores": scores[kept]}]

    from clipseg_ws.regions import sam_words

    monkeypatch.setitem(sam_words._LOADED, ("x", "cpu"), Concepts(Answering(), Processor()))
    assert load_concepts("x") is sam_words._LOADED["x", "cpu"]
    picture = Image.fromarray(np.zeros((3, 4, 3), np.uint8))
    found = Labeller("x", 0.3, 1.0)(picture, ["cat", "dog"])
    assert [len(regions) for regions in found] == [0, 2] and len(Labeller("x", 0.6, 1.0)(picture, ["dog"])[0]) == 1
    maps = concept_maps(found, [1, -1, 0], (3, 4))
    assert torch.equal(maps[0], torch.tensor([0.9, 0.9, 0.5])[:, None].expand(3, 4)) and not maps[1:].any()
    scores = torch.stack([torch.full((3, 4), 0.7), torch.full((3, 4), 0.3)])
    joined = fused(scores, maps[:1])
    assert torch.allclose(joined[1], maps[0]) and torch.allclose(joined[0, :, 0], torch.tensor([0.1, 0.1, 0.5]))
    assert torch.equal(fused(scores, torch.zeros(1, 3, 4)), scores)
