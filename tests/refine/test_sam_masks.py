"""SAM as a refiner: the best-agreeing mask of each part, marks that prompt, what nothing agrees with stays."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from small_sam import saved_sam

from clipseg_ws.refine import REFINERS
from clipseg_ws.refine import sam as refiner
from clipseg_ws.refine.picture import refine_picture
from clipseg_ws.refine.sam import connected_parts, decided, sam_masks, share_of

IMAGE = torch.from_numpy((np.random.default_rng(0).random((1, 3, 40, 56)) * 255).astype(np.uint8))


class Drawn:
    """In place of SAM: answers every prompt with the box, a disc around the first point, and nothing."""

    def embed(self, image):
        self.size = image.shape[:2]
        self.prompts = []
        return self.size

    def decode(self, seen, *, points, boxes, mask):
        self.prompts.append((points, boxes, mask))
        y, x = torch.meshgrid(*(torch.arange(n) + 0.5 for n in self.size), indexing="ij")
        x0, y0, x1, y1 = boxes[0]
        box = (x > x0) & (x < x1) & (y > y0) & (y < y1)
        disc = (x - points[0, 0, 0]) ** 2 + (y - points[0, 0, 1]) ** 2 < 9
        masks = torch.stack([box, disc, torch.zeros_like(box)])[None].float() * 20 - 10
        return masks, torch.tensor([[0.1, 0.9, 0.9]])

    def enlarge(self, seen, low):
        return low


@pytest.fixture
def drawn(monkeypatch):
    sam = Drawn()
    monkeypatch.setattr(refiner, "load_sam", lambda repo, device: sam)
    return sam


def blocks() -> torch.Tensor:
    """[1, 3, 40, 56]: class 1 a box with a bite out of it, class 2 a far speck, the background elsewhere."""
    scores = torch.zeros(1, 3, 40, 56)
    scores[0, 0], scores[0, 1, 5:30, 5:40], scores[0, 2, 36, 50] = 0.6, 0.9, 0.9
    scores[0, 1, 5:8, 5:9] = 0.1
    return scores


def test_the_table_tells_the_functions_parameters():
    keywords = [p for p in inspect.signature(sam_masks).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert {p.name: p.default for p in keywords} == dict(REFINERS["sam"].parameters)


def test_the_best_agreeing_mask_is_taken(drawn):
    labels = sam_masks(blocks(), IMAGE, min_area=4)[0].argmax(0)
    box = torch.zeros(40, 56, dtype=torch.bool)
    box[5:30, 5:40] = True
    assert torch.equal(labels == 1, box)  # the bite is filled; the quality that SAM expects does not count
    assert torch.equal(labels == 2, blocks()[0].argmax(0) == 2) and len(drawn.prompts) == 1  # too small to prompt
    points, boxes, mask = drawn.prompts[0]
    assert boxes.tolist() == [[5, 5, 40, 30]] and box[int(points[0, 0, 1]), int(points[0, 0, 0])]
    assert mask.shape == (40, 56) and mask[20, 20] > 0.5 and mask[35, 20] == 0
    kept = sam_masks(blocks(), IMAGE, agreement=1.0)[0].argmax(0)
    assert torch.equal(kept, blocks()[0].argmax(0))


def test_marked_pixels_prompt_even_in_small_parts(drawn):
    scores = blocks()
    scores[0, :, 36, 50] = torch.tensor([0.0, 0.0, 1.0])
    sam_masks(scores, IMAGE, agreement=0.0)
    points = [p[0][0].tolist() for p in drawn.prompts]
    assert len(points) == 2 and points[1] == [[50.5, 36.5]]


def test_pictures_do_not_mix_and_no_background_is_invented(drawn):
    scores = torch.cat([blocks(), torch.rand(1, 3, 40, 56)])
    both = sam_masks(scores, IMAGE.expand(2, -1, -1, -1))
    assert torch.equal(both[:1], sam_masks(scores[:1], IMAGE)) and both.min() >= 0 and both.max() <= 1
    filled = blocks()
    filled[0, 0] = 0
    filled[0, 1] += 0.05
    assert (sam_masks(filled, IMAGE)[0].argmax(0) > 0).all()
    empty = torch.zeros(1, 1, 40, 56) + 0.5
    assert torch.equal(sam_masks(empty, IMAGE), empty)


def test_of_two_masks_the_stronger_score_wins():
    scores = torch.tensor([0.1, 0.8, 0.4]).view(3, 1, 1)
    inside = torch.tensor([0.0, 0.9, 0.9]).view(3, 1, 1)
    assert decided(scores, inside).flatten().tolist() == pytest.approx([0.1, 0.9, 0.45])
    assert float(share_of(scores, 2)) == pytest.approx(1 / 3)
    mask = np.zeros((4, 9), bool)
    mask[0, :3], mask[2:, 5:], mask[3, 0] = True, True, True
    parts = list(connected_parts(mask, 2, 2, np.zeros_like(mask)))
    assert [int(part.sum()) for part in parts] == [8, 3]


def test_with_a_real_model_through_the_door(tmp_path):
    repo = saved_sam(tmp_path / "sam")
    out = refine_picture(f"sam:{repo}(agreement=0, min_area=10)", blocks(), IMAGE)
    assert out.shape == (1, 3, 40, 56) and out.min() >= 0 and out.max() <= 1 and not torch.equal(out, blocks())
    kept = refine_picture(f"sam:{repo}(agreement=1)", blocks(), IMAGE)
    assert torch.equal(kept.argmax(1), blocks().argmax(1))
    with pytest.raises(ValueError, match="no model is named"):
        refine_picture("sam", blocks(), IMAGE)
    with pytest.raises(ValueError, match="agreement=2"):
        refine_picture(f"sam:{repo}(agreement=2)", blocks(), IMAGE)
