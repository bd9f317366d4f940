"""What a setting may read, the marks derived from masks, and the presets of the papers."""

from __future__ import annotations

import layouts_eval as make
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from clipseg_ws.eval.datasets import AVG8
from clipseg_ws.eval.datasets import derived_marks as marks
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.guard import KINDS, ProtocolViolation, parse_setting
from clipseg_ws.eval.protocols import PROTOCOLS, load_protocol

READERS = ("tags", "boxes", "points", "scribbles", "masks")


@pytest.mark.parametrize("setting", ["zero", "weak", "boxes", "points", "scribbles", "oracle"])
def test_a_setting_hands_out_its_labels_and_nothing_else(setting, tmp_path):
    data = load_dataset("folder", make.plain(tmp_path, {"a": make.stripes(0, 2, 255, 0)}), setting=setting)
    allowed = KINDS[setting]
    for kind in READERS:
        labels = data.sample("a").labels
        if kind in allowed:
            getattr(labels, kind)()
            assert {entry.split()[0] for entry in labels.read} == {kind}
        else:
            with pytest.raises(ProtocolViolation, match=rf"setting '{setting}' may read .* not {kind}"):
                getattr(labels, kind)()
            assert not labels.read


def test_forbidden_readers_are_not_even_held(tmp_path):
    data = load_dataset("folder", make.plain(tmp_path, {"a": make.stripes(0, 2)}), setting="weak")
    assert set(data.sample("a").labels._readers) == {"tags"}


def test_weak_labels_of_every_kind(tmp_path):
    truth = make.stripes(0, 2, 0, 255)
    make.plain(tmp_path, {"a": truth})
    names = ("cat", "dog")
    for setting, name in [("weak", "tags"), ("boxes", "boxes"), ("points", "points"), ("scribbles", "scribbles")]:
        weak = load_dataset("folder", tmp_path, setting=setting).sample("a").labels.weak(names)
        assert weak.tags == ("dog",) and len(getattr(weak, name))
    assert load_dataset("folder", tmp_path).sample("a").labels.weak(names) is None


@pytest.mark.parametrize("text", ["few-1", "few-5", "weak-few-5"])
def test_few_shot_settings(text):
    setting = parse_setting(text)
    assert setting.name == text and setting.shots == int(text[-1]) and setting.reads == ()
    assert setting.supports == ("support tags" if text.startswith("weak") else "support masks")


@pytest.mark.parametrize("text", ["few", "few-0", "weak-few", "Zero", "", "few--1", "few-x"])
def test_unknown_settings_list_the_choices(text):
    with pytest.raises(ValueError, match="choose from zero, weak"):
        parse_setting(text)


@st.composite
def label_maps(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    blocks = rng.choice([0, 1, 2, 255], (draw(st.integers(1, 5)), draw(st.integers(1, 6))))
    return np.kron(blocks, np.ones((draw(st.integers(1, 6)), draw(st.integers(1, 5))), int)).astype(np.uint8)


@given(label_maps())
@settings(max_examples=60, deadline=None)
def test_derived_marks_never_contradict_the_mask(labels):
    names = ("cat", "dog")
    drawn = marks.scribbles(labels, 2)
    assert (labels[drawn != 255] == drawn[drawn != 255]).all()
    assert {*np.unique(drawn)} - {255} == {*np.unique(labels)} - {255}
    assert set(marks.tags(labels, names)) == {names[v - 1] for v in np.unique(labels) if v in (1, 2)}
    for name, x, y in marks.points(labels, names):
        assert labels[int(y), int(x)] == names.index(name) + 1
    boxes = marks.boxes(labels, names)
    for i, name in enumerate(names):
        inside = np.zeros(labels.shape, bool)
        own = [box for box in boxes if box[0] == name]
        for _, x0, y0, x1, y1 in own:
            inside[int(y0) : int(y1), int(x0) : int(x1)] = True
        assert not (labels == i + 1)[~inside].any()
        assert len(own) == ndimage.label(labels == i + 1, np.ones((3, 3)))[1]


def test_a_stroke_runs_along_its_region():
    labels = np.zeros((40, 60), np.uint8)
    labels[15:25, 5:55] = 1
    ys, xs = np.nonzero(marks.scribbles(labels, 1) == 1)
    assert xs.max() - xs.min() > 30 and abs(ys.mean() - 19.5) < 2
    again = marks.scribbles(labels, 1)
    assert np.array_equal(again, marks.scribbles(labels.copy(), 1))


def test_specks_are_no_objects():
    labels = np.zeros((100, 100), np.uint8)
    labels[10:40, 10:40] = 1
    labels[80, 80] = 1
    labels[90, 90] = 2  # the only one of its class stays
    assert [box[0] for box in marks.boxes(labels, ("cat", "dog"))] == ["cat", "dog"]


DENSE = {  # data set -> for each method short side, window, stride, logit scale, threshold, area threshold
    "sclip": {
        "voc21": (336, 224, 112, 65, 0.1, 0.1), "voc20": (336, 224, 112, 40, None, None),
        "context60": (336, 224, 112, 50, 0.1, None), "context59": (336, 224, 112, 40, None, None),
        "coco-object81": (336, 224, 112, 50, 0.1, None), "coco-stuff171": (448, 224, 112, 40, None, None),
        "ade150": (336, 224, 112, 40, None, None), "cityscapes19": (560, 224, 112, 40, None, None),
    },
    "naclip": {
        "voc21": (336, 0, 0, 40, 0.1, None), "voc20": (336, 0, 0, 40, None, None),
        "context60": (336, 224, 112, 40, 0.1, None), "context59": (336, 224, 112, 40, None, None),
        "coco-object81": (336, 224, 112, 40, 0.1, None), "coco-stuff171": (336, 224, 112, 40, None, None),
        "ade150": (336, 224, 112, 40, None, None), "cityscapes19": (560, 224, 112, 40, None, None),
    },
    "clearclip": {
        "voc21": (448, 448, 224, 50, 0.5, None), "voc20": (448, 448, 224, 50, None, None),
        "context60": (448, 448, 224, 50, 0.15, None), "context59": (448, 448, 224, 50, None, None),
        "coco-object81": (448, 448, 224, 50, 0.4, None), "coco-stuff171": (448, 448, 224, 50, None, None),
        "ade150": (448, 448, 224, 50, None, None), "cityscapes19": (448, 224, 224, 50, None, None),
    },
    "proxyclip": {
        "voc21": (336, 336, 112, 40, 0.2, None), "voc20": (336, 336, 112, 40, None, None),
        "context60": (336, 336, 112, 40, 0.15, None), "context59": (336, 336, 112, 40, None, None),
        "coco-object81": (336, 336, 112, 40, 0.25, None), "coco-stuff171": (336, 336, 112, 40, None, None),
        "ade150": (448, 336, 112, 40, None, None), "cityscapes19": (448, 224, 112, 40, None, None),
    },
}  # fmt: skip


def test_the_table_has_every_data_set_of_the_mean():
    assert all(set(rows) == set(AVG8) for rows in DENSE.values())


@pytest.mark.parametrize("dataset", AVG8)
@pytest.mark.parametrize("name", DENSE)
def test_published_constants(name, dataset):
    p = load_protocol(name, dataset, "zero")
    found = (p.resize, p.window, p.stride, p.logit_scale, p.threshold, p.area_threshold)
    assert found == DENSE[name][dataset]
    assert p.long_side == 2048 and p.templates == "imagenet80" and p.method == name
    assert p.refine == ("pamr" if name == "naclip" else None) and p.average == "union" and not p.sweep
    assert p.more == {} and p.score_size is None and p.settings == ("zero",)


def test_other_presets():
    assert load_protocol("clip-es", "voc21").more == {"affinity.threshold": 0.4}
    assert load_protocol("clip-es", "coco14").more == {"affinity.threshold": 0.7}
    assert load_protocol("clip-es", "voc21").average == "truth" and load_protocol("clip-es", "voc21").sweep
    assert load_protocol("hsnet", "pascal5i", "few").score_size == (400, 400)
    assert load_protocol("panet", "pascal5i", "few").score_size == (417, 417)
    assert load_protocol("default", "scenes").options(()) == {}


def test_a_protocol_says_what_the_segmenter_cannot_be_told():
    protocol = load_protocol("sclip", "voc21")
    known = ["short_side", "logit_scale", "background_threshold", "templates", "window", "long_side", "area_threshold"]
    with pytest.raises(ValueError, match=r"fixes stride=112, for which this Segmenter has no setting"):
        protocol.options(known)
    assert protocol.options([*known, "stride"])["short_side"] == 336


def test_unknown_protocols_and_settings_they_are_not_for():
    with pytest.raises(ValueError, match=", ".join(PROTOCOLS)):
        load_protocol("sclp", "voc21")
    with pytest.raises(ValueError, match="is for the settings zero, got 'weak'"):
        load_protocol("sclip", "voc21", "weak")
