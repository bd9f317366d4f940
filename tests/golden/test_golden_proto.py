"""Every recorded prototype case: PANet with its alignment, HSNet's vote, PFENet's prior."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import golden_cases

from clipseg_ws.activations.alignment import check_alignment
from clipseg_ws.activations.gradcam import min_max
from clipseg_ws.activations.parts import match_parts
from clipseg_ws.activations.prior import nearest_cosine
from clipseg_ws.activations.prototypes import (
    background_prototype,
    class_prototypes,
    masked_average_pooling,
    match,
    vote,
)


def assert_close(name: str, got: torch.Tensor, case: dict, entry: dict) -> None:
    """Compare one tensor by the rule and tolerance of the manifest."""
    rule = entry["tensors"][name]["tolerance"]
    want = case[name]
    assert got.numel() == want.numel(), name
    got = got.reshape(want.shape)
    if rule["rule"] == "max_abs":
        assert (got - want).abs().max() <= rule["value"], (name, float((got - want).abs().max()))
    elif rule["rule"] == "exact":
        assert torch.equal(got.long(), want.long()), name
    else:
        assert rule["rule"] == "fraction_of_equal_elements_at_least", rule
        assert (got.long() == want.long()).float().mean() >= rule["value"], name


def panet(case: dict, entry: dict):
    """Flat supports, their ways, and the sizes."""
    ways, shots = case["support_features"].shape[:2]
    flat = {key: case[key].flatten(0, 1) for key in ("support_features", "support_fg", "support_bg")}
    return flat, torch.arange(ways).repeat_interleave(shots), ways, entry["parameters"]


@pytest.mark.parametrize("name", golden_cases("proto"))
def test_panet(name, golden, golden_manifest):
    case, entry = golden(name), golden_manifest[name]
    flat, ways, count, parameters = panet(case, entry)
    fg = masked_average_pooling(flat["support_features"], flat["support_fg"])
    bg = masked_average_pooling(flat["support_features"], flat["support_bg"])
    assert_close("fg_vectors", fg, case, entry)
    assert_close("bg_vectors", bg, case, entry)
    fg_prototypes, bg_prototype = class_prototypes(fg, ways, count), background_prototype(bg, ways, count)
    assert_close("fg_prototypes", fg_prototypes, case, entry)
    assert_close("bg_prototype", bg_prototype, case, entry)
    prototypes = torch.cat([bg_prototype, fg_prototypes])
    query, scale = case["query_features"][None], parameters["scale"]
    low = match_parts(query, prototypes[:, None], scale=scale)  # what the matcher runs: the means are parts of one
    assert torch.equal(low, match(query, prototypes, scale=scale))
    assert_close("logits_low", low, case, entry)
    large = F.interpolate(low, size=parameters["mask_size"], mode="bilinear", align_corners=False)
    assert_close("logits", large, case, entry)
    assert_close("prediction", large.argmax(1), case, entry)


@pytest.mark.parametrize("name", golden_cases("proto"))
def test_panet_alignment(name, golden, golden_manifest):
    case, entry = golden(name), golden_manifest[name]
    flat, ways, count, parameters = panet(case, entry)
    labels = case["logits_low"].argmax(0)[None]
    assert_close("align_query_labels", labels, case, entry)
    found = check_alignment(
        case["query_features"][None], labels, flat["support_features"], flat["support_fg"], flat["support_bg"], ways,
        count=count, scale=parameters["scale"],
    )  # fmt: skip
    assert_close("query_prototypes", found.prototypes, case, entry)
    assert_close("align_support_logits_low", found.logits, case, entry)
    assert found.present.all(), "the recorded cases have every way in the prediction"
    assert_close("align_loss", found.loss.mean(), case, entry)
    large = F.interpolate(found.logits[0], size=parameters["mask_size"], mode="bilinear", align_corners=False)
    assert_close("align_support_prediction", large.argmax(1), case, entry)
    target = torch.where(flat["support_fg"] > 0, 1, torch.where(flat["support_bg"] > 0, 0, 255))
    assert_close("align_support_target", target, case, entry)
    truth, said = target == 1, (large.argmax(1) == 1) & (target != 255)
    iou = (truth & said).sum((1, 2)) / (truth | said).sum((1, 2))
    assert torch.allclose(found.iou[0], iou)


@pytest.mark.parametrize("name", golden_cases("vote"))
def test_hsnet_vote(name, golden, golden_manifest):
    case, entry = golden(name), golden_manifest[name]
    for index, about in enumerate(entry["parameters"]["cases"]):
        logits = case[f"logits_{index}"]
        if about["original"]:
            logits = F.interpolate(logits, size=about["original"], mode="bilinear", align_corners=True)
        votes, share = vote(logits)
        assert_close(f"votes_{index}", votes, case, entry)
        assert_close(f"prediction_{index}", share >= entry["parameters"]["threshold"], case, entry)


@pytest.mark.parametrize("name", golden_cases("prior"))
def test_pfenet_prior(name, golden, golden_manifest):
    """The matcher's ``nearest_cosine`` with masked supports, and the stretch that the paper puts on each map."""
    case, entry = golden(name), golden_manifest[name]
    masks, features = (case["support_masks"] == 1).float(), case["support_features"]
    soft = F.interpolate(masks[:, None], size=features.shape[2:], mode="bilinear", align_corners=True)
    assert_close("masks_small", soft[:, 0], case, entry)
    cells = (features * soft).flatten(2).transpose(1, 2)  # [S, M, D]
    best = torch.cat([nearest_cosine(case["query_features"][None], mine) for mine in cells])  # [S, h, w]
    prior = min_max(best.flatten(1)).view_as(best)
    assert_close("prior_per_shot", prior, case, entry)
    assert_close("prior", prior.mean(0), case, entry)
