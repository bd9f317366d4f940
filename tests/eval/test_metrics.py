"""Metrics against torchmetrics, the recorded references, and definitions written out plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torchmetrics.classification import MulticlassJaccardIndex

from clipseg_ws.eval.metrics.boundary import BoundaryIoU, boundary_strip
from clipseg_ws.eval.metrics.confusion import ConfusionMatrix, joint_counts
from clipseg_ws.eval.metrics.fewshot import FewShotMeter
from clipseg_ws.eval.metrics.thresholds import ThresholdSweep


def random_labels(seed: int, *, classes: int = 6, absent: int = 4, shape=(2, 13, 17), ignored: float = 0.1):
    """Prediction and truth [B, H, W] uint8 with one class in neither and some ignored truth."""
    rng = np.random.default_rng(seed)
    allowed = [c for c in range(classes) if c != absent]
    truth = rng.choice(allowed, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, truth, rng.choice(allowed, shape)).astype(np.uint8)
    return prediction, np.where(rng.random(shape) < ignored, 255, truth).astype(np.uint8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int32])
def test_confusion_matrix_agrees_with_torchmetrics(dtype):
    prediction, truth = random_labels(0)
    matrix = ConfusionMatrix(6)
    for p, t in zip(prediction, truth, strict=True):
        matrix.update(torch.from_numpy(p).to(dtype), torch.from_numpy(t).to(dtype))
    result = matrix.compute()
    arguments = torch.from_numpy(prediction).long(), torch.from_numpy(truth).long()
    each = MulticlassJaccardIndex(6, average="none", ignore_index=255)(*arguments).numpy()
    macro = MulticlassJaccardIndex(6, average="macro", ignore_index=255)(*arguments).item()
    present = [0, 1, 2, 3, 5]
    np.testing.assert_allclose(np.array(result["iou"])[present], each[present], atol=1e-6)
    assert math.isnan(result["iou"][4]) and result["classes_counted"] == 5
    assert result["mIoU"] == pytest.approx(macro, abs=1e-6)


def test_counts_do_not_depend_on_shape_dtype_or_merging():
    prediction, truth = random_labels(1)
    whole = joint_counts(prediction, truth, 6)
    assert torch.equal(whole, joint_counts(prediction.astype(np.int64), truth.astype(np.int16), 6))
    first, second = ConfusionMatrix(6), ConfusionMatrix(6)
    first.update(prediction[0], truth[0])
    second.update(prediction[1], truth[1])
    assert torch.equal(first.merge(second).matrix, whole)
    again = ConfusionMatrix(6)
    again.load(first.state())
    assert torch.equal(again.matrix, whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_counting_happens_on_the_device_of_the_prediction():
    prediction, truth = random_labels(1)
    matrix = ConfusionMatrix(6)
    matrix.update(torch.from_numpy(prediction).cuda(), truth)
    assert matrix.matrix.is_cuda and torch.equal(matrix.matrix.cpu(), joint_counts(prediction, truth, 6))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_labels_outside_the_classes_are_refused_in_both_paths(dtype):
    truth = np.array([[0, 1], [255, 1]], dtype)
    assert joint_counts(np.array([[0, 1], [9, 0]], dtype), truth, 2).sum() == 3  # wrong only where it is ignored
    with pytest.raises(ValueError, match="outside 0…1"):
        joint_counts(np.array([[0, 255], [0, 0]], dtype), truth, 2)
    with pytest.raises(ValueError, match="outside 0…1"):
        joint_counts(np.zeros((2, 2), dtype), np.array([[0, 2], [0, 0]], dtype), 2)
    with pytest.raises(ValueError, match="shape"):
        joint_counts(np.zeros((2, 3), dtype), truth, 2)
    with pytest.raises(TypeError, match="integers"):
        joint_counts(np.zeros((2, 2), np.float32), truth, 2)


def test_the_two_averages_and_protocols_without_background():
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    prediction = np.array([[0, 2, 1, 1]], np.uint8)  # class 2 is only predicted
    matrix = ConfusionMatrix(4)
    matrix.update(prediction, truth)
    assert matrix.compute("union")["mIoU"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert matrix.compute("truth")["mIoU"] == pytest.approx((0.5 + 1) / 2)
    assert matrix.compute("truth")["fb_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    without = ConfusionMatrix(4)
    without.update(np.array([[0, 2, 1, 1]], np.uint8), np.array([[1, 2, 1, 1]], np.uint8))  # one pixel unanswered
    result = without.compute(first_class=1)
    assert result["mIoU"] == pytest.approx((2 / 3 + 1) / 2) and result["pixel_accuracy"] == 0.75
    assert math.isnan(result["fb_iou"])
    with pytest.raises(ValueError, match="choose from union, truth"):
        matrix.compute("median")


def test_nothing_scored_is_not_a_number():
    assert math.isnan(ConfusionMatrix(3).compute()["mIoU"])


def metric_tensors(golden, golden_manifest, name):
    if name not in golden_manifest:
        pytest.skip(f"no recorded case {name}")
    return golden(name), golden_manifest[name]["parameters"]


@pytest.mark.parametrize("kind", ["a1", "a2", "t03", "random"])
def test_recorded_confusion_matrices(golden, golden_manifest, kind):
    tensors, parameters = metric_tensors(golden, golden_manifest, "metrics_wsss")
    matrix = ConfusionMatrix(parameters["classes"], parameters["ignore"])
    for prediction, truth in zip(tensors[f"pred_{kind}"], tensors["gt"], strict=True):
        matrix.update(prediction, truth)
    assert torch.equal(matrix.matrix, tensors[f"confusion_{kind}"].long())
    result = matrix.compute("truth")
    iou = [-1 if math.isnan(v) else v for v in result["iou"]]
    np.testing.assert_allclose(iou, tensors[f"class_iou_{kind}"], atol=1e-6)
    summary = [result[k] for k in ("mIoU", "pixel_accuracy", "class_accuracy", "frequency_weighted_iou")]
    np.testing.assert_allclose(summary, tensors[f"summary_{kind}"], atol=1e-6)


def test_recorded_threshold_sweep_in_one_pass(golden, golden_manifest):
    tensors, parameters = metric_tensors(golden, golden_manifest, "metrics_wsss")
    sweep = ThresholdSweep(
        parameters["classes"], parameters["thresholds"], parameters["exponents"], dtype=torch.float16
    )
    start = 0
    for truth, count in zip(tensors["gt"], tensors["cams_per_image"].tolist(), strict=True):
        part = slice(start, start + count)
        sweep.update(tensors["cams"][part], truth, (tensors["keys"][part] + 1).tolist())
        start += count
    found = sweep.compute("truth")
    thresholds = [entry["mIoU"] for entry in found if entry["kind"] == "threshold"]
    powers = [entry["mIoU"] for entry in found if entry["kind"] == "power"]
    np.testing.assert_allclose(thresholds, tensors["miou_threshold"], atol=1e-6)
    np.testing.assert_allclose(powers, tensors["miou_exponent"], atol=1e-6)
    assert torch.equal(sweep.matrices("power")[0], tensors["confusion_a1"].long())
    assert torch.equal(sweep.matrices("threshold")[5], tensors["confusion_t03"].long())


@given(seed=st.integers(0, 2**32 - 1), maps=st.integers(0, 3), levels=st.sampled_from([2, 5, 20, 1000]))
@settings(max_examples=40, deadline=None)
def test_sweep_equals_one_run_per_setting(seed, maps, levels):
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, levels + 1, (maps, 5, 7)) / levels).astype(np.float32)  # few levels: many ties
    truth = rng.choice([0, 1, 2, 3, 255], (5, 7)).astype(np.uint8)
    sweep = ThresholdSweep(4, (0.2, 0.5, 0.8), (1, 2, 3))
    sweep.update(values, truth)
    best = values.max(0, initial=0.0)
    backgrounds = [np.full((5, 7), t, np.float32) for t in sweep.thresholds] + [(1 - best) ** a for a in sweep.powers]
    for matrix, background in zip(
        torch.cat([sweep.matrices("threshold"), sweep.matrices("power")]), backgrounds, strict=True
    ):
        labels = np.concatenate([background[None], values]).argmax(0).astype(np.uint8)
        assert torch.equal(matrix, joint_counts(labels, truth, 4))


def test_sweep_refuses_what_does_not_fit_and_merges():
    sweep, other = ThresholdSweep(3), ThresholdSweep(3)
    maps, truth = torch.rand(2, 4, 5), torch.randint(0, 3, (4, 5))
    other.update(maps, truth)
    merged = sweep.merge(other)
    again = ThresholdSweep(3)
    again.load(merged.state())
    assert again.compute() == other.compute()
    for bad in [(maps, truth[:3]), (maps, truth, [1]), (maps, truth, [1, 3]), (maps, truth + 5)]:
        with pytest.raises(ValueError):
            sweep.update(*bad)
    with pytest.raises(ValueError, match="ascend"):
        ThresholdSweep(3, (0.5, 0.1))


@pytest.mark.parametrize("kind", ["ignore", "noignore"])
def test_recorded_few_shot_sums(golden, golden_manifest, kind):
    tensors, parameters = metric_tensors(golden, golden_manifest, "metrics_fewshot")
    meter = FewShotMeter(parameters["classes_of_fold"])
    for i, class_id in enumerate(tensors["class_id"].tolist()):
        truth = tensors["mask"][i].clone()
        if kind == "ignore":
            truth[tensors["boundary"][i] == 1] = 255
        intersection, union = meter.update(tensors["pred"][i], truth, class_id)
        assert intersection.tolist() == tensors[f"area_inter_{kind}"][i].tolist()
        assert union.tolist() == tensors[f"area_union_{kind}"][i].tolist()
    result = meter.compute()
    np.testing.assert_allclose(result["class_iou"], tensors[f"class_iou_{kind}"], atol=1e-6)
    np.testing.assert_allclose([100 * result["mIoU"], 100 * result["fb_iou"]], tensors[f"summary_{kind}"], atol=1e-4)


def test_few_shot_meter_merges_and_names_its_classes():
    prediction, truth = np.eye(4, dtype=np.uint8), np.ones((4, 4), np.uint8)
    one, two, whole = FewShotMeter((5, 6)), FewShotMeter((5, 6)), FewShotMeter((5, 6))
    one.update(prediction, truth, 5)
    two.update(prediction, prediction, 6)
    for meter_input in ((prediction, truth, 5), (prediction, prediction, 6)):
        whole.update(*meter_input)
    merged = one.merge(two).compute()
    assert merged["mIoU"] == whole.compute()["mIoU"] == (0.25 + 1) / 2
    assert merged["pixel_accuracy"] == (4 + 16) / 32
    with pytest.raises(ValueError, match="not in this fold"):
        one.update(prediction, truth, 7)


def eroded_strip(mask: np.ndarray, width: int) -> np.ndarray:
    """The published definition: the mask less its erosion, `width` times by a 3 x 3 square, outside is empty."""
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_boundary_strip_of_all_classes_equals_erosion_class_by_class(seed, width):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (4, 3)), np.ones((5, 6), int)).astype(np.uint8)
    strip = boundary_strip(labels, width)
    for c in range(3):
        assert np.array_equal(strip & (labels == c), eroded_strip(labels == c, width))


def test_boundary_iou_is_the_iou_of_the_strips():
    truth = np.zeros((60, 80), np.uint8)
    truth[20:45, 30:60] = 1
    prediction = np.roll(truth, 2, axis=1)
    meter = BoundaryIoU(3)
    meter.update(prediction, truth)
    width = round(0.02 * 100)
    expected = []
    for c in (0, 1):
        a, b = eroded_strip(prediction == c, width), eroded_strip(truth == c, width)
        expected.append((a & b).sum() / (a | b).sum())
    result = meter.compute()
    assert result["iou"][:2] == pytest.approx(expected) and math.isnan(result["iou"][2])
    assert result["boundary_iou"] == pytest.approx(np.mean(expected)) and result["classes_counted"] == 2
    assert result["iou"][1] < (prediction & truth).sum() / (prediction | truth).sum()  # stricter than plain IoU


def test_boundary_iou_ignores_and_merges():
    truth = np.zeros((40, 30), np.uint8)
    truth[10:20, 5:25] = 1
    truth[8:10] = 255
    wrong_inside = truth.copy()
    wrong_inside[8:10] = 1  # differs only where the truth is ignored
    one, two = BoundaryIoU(2), BoundaryIoU(2)
    one.update(wrong_inside, truth)
    two.update(np.where(truth == 255, 0, truth), truth)
    assert one.compute()["boundary_iou"] == two.compute()["boundary_iou"] == 1.0
    two.update(np.zeros_like(truth), truth)
    state = one.merge(two).state()
    assert state["union"][1] > state["intersection"][1]


def test_foreground_and_background_are_two_classes():
    """All classes taken together against the background, whichever class a foreground pixel is given."""
    prediction, truth = random_labels(1)
    matrix = ConfusionMatrix(6)
    matrix.update(prediction, truth)
    known = truth != 255
    ious = []
    for side in (lambda labels: labels == 0, lambda labels: labels != 0):
        a, b = side(prediction) & known, side(truth) & known
        ious.append(int((a & b).sum()) / int((a | b).sum()))
    assert matrix.compute()["fb_iou"] == pytest.approx(sum(ious) / 2)
