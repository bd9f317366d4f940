"""Weak labels in the maps and in the answer: marks steer the scores, and the result never contradicts a label.

Everything works on one picture; labels are those of ``Constraints`` among the kept classes (see its ``select``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.refine.geodesic import colour_distances, geodesic_distances
from clipseg_ws.stages.labels import label
from clipseg_ws.weak.constraints import Constraints
from clipseg_ws.weak.placement import place_in_boxes

BOX_PRIOR = 0.15  # least score of a class inside its box; the map, stretched inside the box, adds the rest
SEED_RANGE = 0.8  # geodesic distance over which a seed's evidence falls to 1/e
SEED_NEUTRAL = 0.1  # least distance of labels without a seed
COLOUR_WEIGHT = 0.01  # geodesic distance that one unit of difference in CIELAB is worth
SMALLEST = 1e-6


def box_maps(maps: Tensor, marks: Constraints, prior: float = BOX_PRIOR) -> Tensor:
    """Maps [K, H, W] of classes with boxes: stretched inside each box to [prior, 1], zero outside; others unchanged.

    Where two boxes of a class overlap the larger value stands. A box in which the map is flat gets ``prior``.
    """
    out = maps.clone()
    for number in {box[0] for box in marks.boxes}:
        out[number - 1] = 0
    for number, x0, y0, x1, y1 in marks.boxes:
        inside = maps[number - 1, y0:y1, x0:x1]
        low, high = inside.amin(), inside.amax()
        stretched = prior + (1 - prior) * (inside - low) / (high - low).clamp_min(1e-6)
        out[number - 1, y0:y1, x0:x1] = torch.maximum(out[number - 1, y0:y1, x0:x1], stretched)
    return out


def spread_seeds(
    scores: Tensor, image: Tensor, marks: Constraints, *, reach: float = SEED_RANGE, neutral: float = SEED_NEUTRAL
) -> Tensor:
    """Weigh scores by the distance to the seeds: score times exp(-distance / reach), made to sum to one.

    The distance is the geodesic one plus ``COLOUR_WEIGHT`` times the difference to the seeds' colours. Labels without
    a seed are as far away as the nearest label that has one, at least ``neutral``: near a seed its label gains on them,
    far from all seeds the scores decide between the two. Without seeds the scores come back as they are.

    Args:
        scores: [1+K, H, W] in [0, 1], background first. image: [3, H, W] uint8 or RGB in [0, 1].

    Returns:
        [1+K, H, W] in [0, 1], summing to one where any label has a score.
    """
    if not (marks.seed >= 0).any():
        return scores
    distance = geodesic_distances(marks.seed, image, len(scores))
    distance = distance + COLOUR_WEIGHT * colour_distances(marks.seed, image, len(scores))
    nearest = distance.amin(0, keepdim=True).clamp_min(neutral)
    distance = torch.where(torch.isfinite(distance), distance, nearest).to(scores.device)
    evidence = (-distance / reach).softmax(0)
    weighted = (scores.float() + 0.05) * evidence  # a map that is zero somewhere does not outvote a near seed
    return (weighted / weighted.sum(0, keepdim=True).clamp_min(1e-12)).to(scores.dtype)


def apply_constraints(scores: Tensor, marks: Constraints) -> Tensor:
    """Scores [1, 1+K, H, W] in [0, 1] with 0 where a label may not be and 1 (and 0 for the others) at seeds.

    Where a label may be it keeps at least 1e-6, so that the arg-max always falls on an allowed one. Apply it before a
    refiner, which should not spread what is impossible, and again after it.
    """
    allow = marks.allow[None]
    kept = torch.where(allow, scores.clamp_min(SMALLEST), torch.zeros_like(scores))
    return torch.where(allow & (marks.seed >= 0), torch.ones_like(scores), kept)  # at a seed one label is allowed


def constrained_label(scores: Tensor, marks: Constraints, *, min_area: float = 0.0) -> tuple[Tensor, Tensor]:
    """``decide.label`` under constraints: what comes out contradicts no label.

    The arg-max over the allowed labels (background wins ties, then the first class), seeds as they are, and in every
    box without a pixel of its class the best free pixel of it (ties: the first in reading order). ``min_area`` never
    removes seeds or a box's last pixel.

    Args:
        scores: [1, 1+K, H, W] non-negative.

    Returns:
        labels [1, H, W] int64 in 0..K and confidence [1, H, W] float32 in [0, 1], 1 at seeds.
    """
    scores = apply_constraints(scores, marks)
    labels, confidence = label(scores, min_area=min_area)
    seeded = marks.seed >= 0
    labels = torch.where(seeded, marks.seed, labels[0])
    confidence = torch.where(seeded, torch.ones_like(confidence[0]), confidence[0])
    fixed = torch.where(seeded, marks.seed, torch.full_like(marks.seed, -1))
    missing = [box for box in marks.boxes if not (labels[box[2] : box[4], box[1] : box[3]] == box[0]).any()]
    if missing:  # the boxes that are content keep a pixel each, so that filling one never empties another
        pixels = place_in_boxes(scores[0].float().cpu().numpy(), fixed.cpu().numpy(), marks.boxes)
        share = scores[0].float() / scores[0].float().sum(0, keepdim=True).clamp_min(1e-12)
        labels, confidence = labels.clone(), confidence.clone()
        for number, y, x in pixels:
            labels[y, x] = number
            confidence[y, x] = share[number, y, x]
    return labels[None], confidence[None]
