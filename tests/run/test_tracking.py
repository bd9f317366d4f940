"""A bank that grows along a sequence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn import iou, scene, shown

from clipseg_ws import Segmenter
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.save import is_done
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.folder import run_folder
from clipseg_ws.run.tracking import Tracker


@pytest.fixture(scope="module")
def segment():
    return Segmenter("nano", dtype="float32", short_side=224, batch_size=1)


def test_sure_frames_join_and_old_ones_leave(segment):
    start = segment.bank([shown(2, "boat"), shown(1, "car")])
    question = segment.ask(supports=start)
    tracker = Tracker(segment, start, question, every=2, keep=1, sure=0.5)
    result = segment(scene(5).image, supports=tracker.bank())
    assert iou(result.mask("boat"), 5, "boat") > 0.7
    tracker.seen("0", result)
    assert tracker.bank() is start  # not its turn
    tracker.seen("1", result)
    assert tracker.bank().shots() == {"boat": 2, "car": 1} and start.shots() == {"boat": 1, "car": 1}
    for frame in range(2):
        tracker.seen(str(frame), result)
    assert tracker.bank().shots() == {"boat": 2, "car": 1}  # keep=1
    unsure = replace(result, confidence=np.zeros_like(result.confidence))
    doubtful = Tracker(segment, start, question, every=1, sure=0.5)
    doubtful.seen("0", unsure)
    assert doubtful.bank().shots() == start.shots()
    with pytest.raises(ValueError, match="every=0"):
        Tracker(segment, start, question, every=0)


def test_through_the_folder_runner_each_frame_sees_the_bank_of_those_before(segment, tmp_path):
    from PIL import Image

    for i in range(4):
        Image.fromarray(scene(5).image).save(tmp_path / f"f{i}.png")
    start = segment.bank(shown(2, "boat"))
    tracker = Tracker(segment, start, segment.ask(supports=start), every=1, keep=4, sure=0.5)
    counts = []

    def question():
        asked = tracker.question()
        counts.append(asked.examples.matcher.source.shots()["boat"])
        return asked

    sources = list_sources([str(tmp_path)])
    summary = run_folder(segment, sources, tmp_path / "out", question, formats=("png",), on_result=tracker.seen)
    assert (summary.done, summary.failed) == (4, 0) and counts == [1, 2, 3, 4]


@pytest.mark.parametrize("keep", [1, 4])
def test_a_rerun_goes_on_with_the_frames_that_had_joined(segment, tmp_path, keep):
    """Killed after a frame joined and before its file was written: the same labels as without the kill."""
    from PIL import Image

    for i in range(6):
        Image.fromarray(scene(5 + i % 2).image).save(tmp_path / f"f{i}.png")
    sources = list_sources([str(tmp_path)])

    def track(out, frames):
        out.mkdir(exist_ok=True)
        start = segment.bank([shown(2, "boat"), shown(1, "car")])
        tracker = Tracker(
            segment, start, segment.ask(supports=start), every=2, keep=keep, sure=0.3, frames=sources,
            file=out / "track.safetensors",
        )  # fmt: skip
        tracker.restore({str(s) for s in sources if is_done(out, s.relative, ("png",))})
        sizes = []

        def question():
            sizes.append(len(tracker.bank().entries))
            return tracker.question()

        run_folder(segment, frames, out, question, formats=("png",), on_result=tracker.seen)
        return sizes

    whole = track(tmp_path / "whole", sources)
    assert track(tmp_path / "cut", sources[:4]) == whole[:4]
    (tmp_path / "cut" / "f3.png").unlink()  # joined, and was not written
    assert track(tmp_path / "cut", sources) == whole[3:]
    for i in range(6):
        one, other = (read_label_png(tmp_path / name / f"f{i}.png") for name in ("whole", "cut"))
        assert np.array_equal(one, other), i
    assert track(tmp_path / "cut", sources) == []


def test_pixels_that_are_not_sure_are_no_example_of_anything(segment, monkeypatch):
    """Neither of the class nor of the ground."""
    start = segment.bank(shown(2, "boat"))
    tracker = Tracker(segment, start, segment.ask(supports=start), every=1, sure=0.5)
    result = segment(scene(5).image, supports=start)
    confidence = np.ones_like(result.confidence)
    ys, xs = np.nonzero(result.mask("boat"))
    confidence[ys[0], xs[0]] = confidence[0, 0] = 0.4
    assert result.labels[0, 0] == 0
    seen, real = [], segment.bank
    monkeypatch.setattr(segment, "bank", lambda supports: (seen.extend(supports), real(supports))[1])
    tracker.seen("0", replace(result, confidence=confidence))
    want = result.mask("boat").astype(np.uint8)
    want[ys[0], xs[0]] = want[0, 0] = 255
    assert np.array_equal(seen[0].mask, want)


def test_examples_alone_stay_alone_whatever_their_labels_are_spelt_like(segment):
    start = segment.bank([shown(0, "sun", "sun"), shown(1, "sun", "Sun")])
    question = segment.ask(supports=start)
    tracker = Tracker(segment, start, question, every=1, sure=0.0)
    tracker.seen("0", segment(scene(3).image, supports=start))
    assert tracker.bank() is not start and tracker.question().text is None
    assert tracker.question().vocabulary.names == ("sun",)
