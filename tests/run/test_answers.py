"""Results that are there are kept only where they answer this question, with these labels, about this very picture."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter, Support
from clipseg_ws.fewshot.bank import BankWarning, load_bank
from clipseg_ws.output.answers import FILE, read_answers
from clipseg_ws.output.datasets import written
from clipseg_ws.pictures.naming import batch_names
from clipseg_ws.pictures.sources import Source, list_sources
from clipseg_ws.run.asked import labels_digest
from clipseg_ws.run.folder import run_folder
from clipseg_ws.run.pseudo import _finished
from clipseg_ws.structures import WeakLabels


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=3)


def noise(path: Path, seed: int, size: tuple[int, int] = (48, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    for i in range(3):
        noise(tmp_path / "photos" / f"p{i}.png", i)
    return tmp_path / "photos"


TAGS = {"p0": ["cat"], "p1": ["cat", "dog"], "p2": ["dog"]}


def go(segmenter, photos, out, *, classes="cat; dog, puppy", tags=None, formats=("png", "overlay"), **ask):
    tags = TAGS | (tags or {})
    question = segmenter.ask(classes, **ask)
    return run_folder(
        segmenter, list_sources(photos, output=out), out, question, formats=formats,
        tags=lambda source: tags[source.relative.name],
    )  # fmt: skip


def change(photos: Path, how: str) -> None:
    if how == "another picture":
        noise(photos / "p1.png", 99)
    elif how == "touched":
        os.utime(photos / "p1.png", (1, 1))
    elif how == "saved again":  # the same name and pixels, other bytes
        Image.open(photos / "p1.png").save(photos / "p1.png", compress_level=1)


CHANGES = [  # what changes, how many are done again, and why
    ({}, 0, []),
    ({"tags": {"p1": ["dog", "cat"]}}, 0, []),
    ({"tags": {"p1": ["cat"]}}, 1, ["1 done again: labels changed"]),
    ({"tags": {"p1": []}}, 1, ["1 done again: labels changed"]),
    ({"photo": "touched"}, 0, []),
    ({"photo": "another picture"}, 1, ["1 done again: picture changed"]),
    ({"photo": "saved again"}, 1, ["1 done again: picture changed"]),
    ({"set": {"batch_size": 1, "cache_mb": 9}}, 0, []),
    ({"set": {"alpha": 2.0}}, 3, ["3 done again: other alpha"]),
    ({"classes": "cat; dog"}, 3, ["3 done again: other synonyms"]),
    ({"classes": "dog, puppy; cat"}, 3, ["3 done again: other classes, synonyms"]),
    ({"background": "grass, sky"}, 3, ["3 done again: other background words"]),
    ({"formats": ("png",)}, 0, []),
    ({"formats": ("png", "overlay(alpha=0.9)")}, 3, ["3 done again: formats changed"]),
    ({"formats": ("png", "csv")}, 3, []),  # no file of it is there
]


@pytest.mark.parametrize("changed, count, said", CHANGES, ids=lambda value: str(value)[:40])
def test_what_changed_is_done_again_and_said(segmenter, photos, tmp_path, changed, count, said):
    out = tmp_path / "out"
    assert go(segmenter, photos, out).done == 3
    changed = dict(changed)
    change(photos, changed.pop("photo", ""))
    other = segmenter.variant(**changed.pop("set", {}))
    again = go(other, photos, out, **changed)
    assert (again.done, again.skipped, again.again) == (count, 3 - count, said)
    assert go(other, photos, out, **changed).done == 0  # what was done again counts now
    alone = tmp_path / "alone"
    go(other, photos, alone, **changed)
    for name in ("p0", "p1", "p2"):
        mine, theirs = (np.asarray(Image.open(folder / f"{name}.png")).astype(int) for folder in (out, alone))
        assert (mine != theirs).mean() < 0.01, name  # rounding depends on the batch


def test_formats_that_were_added_later_count_too(segmenter, photos, tmp_path):
    go(segmenter, photos, tmp_path / "out", formats=("png",))
    assert go(segmenter, photos, tmp_path / "out", formats=("png", "csv")).done == 3
    assert go(segmenter, photos, tmp_path / "out", formats=("csv", "png")).done == 0


def test_other_supports_are_another_question(segmenter, photos, tmp_path):
    mask = np.zeros((48, 48), np.uint8)
    mask[8:30, 8:30] = 1

    def look(mask, label="cat"):
        bank = segmenter.bank([Support(Image.open(photos / "p0.png").convert("RGB"), mask, label)])
        question = segmenter.ask(supports=bank)
        return run_folder(segmenter, list_sources(photos), tmp_path / "out", question, formats=("png",))

    assert look(mask).done == 3 and look(mask.copy()).done == 0
    again = look(np.roll(mask, 5, 1))
    assert again.done == 3 and again.again == ["3 done again: other supports"]


def test_an_old_answer_goes_where_no_new_one_can_be_made(segmenter, photos, tmp_path):
    out = tmp_path / "out"
    go(segmenter, photos, out)
    (photos / "p1.png").write_text("no picture any more")
    again = go(segmenter, photos, out)
    assert (again.failed, again.skipped) == (1, 2) and "p1.png" in again.reasons[0]
    assert not (out / "p1.png").exists() and not (out / "p1_overlay.png").exists()
    assert [entry.name for entry in written(list_sources(photos), out)] == ["p0.png", "p2.png"]


def test_results_that_nothing_is_known_of(segmenter, photos, tmp_path):
    out = tmp_path / "out"
    go(segmenter, photos, out)
    (out / FILE).unlink()
    assert go(segmenter, photos, out).again == ["3 done again: not known what they answer"]  # the PNGs carry a note
    (out / FILE).write_text("name,question,labels,place,picture,formats\np0,half a r", encoding="utf-8")  # damaged
    assert go(segmenter, photos, out).done == 3 and len(read_answers(out)) == 3


def test_the_place_of_another_pictures_result(segmenter, tmp_path):
    noise(tmp_path / "a/same.png", 1)
    Image.open(tmp_path / "a/same.png").save(tmp_path / "b.jpg")
    (tmp_path / "b").mkdir()
    (tmp_path / "b.jpg").rename(tmp_path / "b/same.jpg")
    out, question = tmp_path / "out", segmenter.ask("cat")
    run_folder(segmenter, list_sources(tmp_path / "a"), out, question)
    before = (out / "same.png").read_bytes()
    with pytest.raises(ValueError, match=r"same\.png' is the result of .*a/same\.png', and .*b/same\.jpg' would"):
        run_folder(segmenter, list_sources(tmp_path / "b"), out, question)
    assert (out / "same.png").read_bytes() == before
    both = run_folder(segmenter, list_sources([tmp_path / "a", tmp_path / "b"]), out, question, formats=("png",))
    assert both.done == 2 and {"same.png.png", "same.jpg.png"} <= {p.name for p in out.iterdir()}
    shutil.move(tmp_path / "a", tmp_path / "moved")
    moved = run_folder(segmenter, list_sources(tmp_path / "moved"), out, question)
    assert (moved.done, moved.skipped) == (0, 1)


def test_nothing_is_written_over_pictures_and_other_peoples_files(segmenter, photos, tmp_path):
    question = segmenter.ask("cat")
    with pytest.raises(ValueError, match=r"p0\.png' would be overwritten by the result 'p0\.png'"):
        run_folder(segmenter, list_sources(photos), photos, question, overwrite=True)
    (tmp_path / "work").mkdir()
    Image.open(photos / "p0.png").save(tmp_path / "work/p0.jpg")
    Image.new("L", (48, 48)).save(tmp_path / "work/p0.png")  # somebody's mask
    mine = list_sources(str(tmp_path / "work/*.jpg"))
    with pytest.raises(ValueError, match="nothing says that clipseg-ws wrote it"):
        run_folder(segmenter, mine, tmp_path / "work", question, formats=("png",))
    assert Image.open(tmp_path / "work/p0.png").mode == "L"
    assert run_folder(segmenter, mine, tmp_path / "work", question, formats=("png",), overwrite=True).done == 1
    twice = [Source(str(photos / name), mine[0].relative) for name in ("p0.png", "p1.png")]
    with pytest.raises(ValueError, match="would both be written to"):
        run_folder(segmenter, twice, tmp_path / "new", question)
    assert not (tmp_path / "new").exists()


def test_a_batch_saves_every_result_under_a_name_of_its_own(segmenter, tmp_path):
    places = [str(noise(tmp_path / name, i)) for i, name in enumerate(("a/1.png", "b/1.png", "image.png"))]
    arrays = [np.zeros((48, 48, 3), np.uint8), np.full((48, 48, 3), 200, np.uint8)]
    results = segmenter([*places, *arrays], classes="cat; dog")
    saved = [path.name for result in results for path in result.save(tmp_path / "out", formats="png")]
    assert len(set(saved)) == 5 == len(list((tmp_path / "out").iterdir())) and "image-2.png" in saved
    assert segmenter(arrays[0], classes="cat").save(tmp_path / "one", formats="png")[0].name == "image.png"
    assert batch_names(["x/a.jpg", "x/a.jpg", None, "x/a.png"]) == ["a.jpg", "a.jpg-2", "image", "a.png"]


def test_a_class_that_was_said_to_be_there_and_has_no_pixel(segmenter, photos, tmp_path):
    def empty(source, result):
        labels = result.labels * 0 if source.relative.name == "p1" else np.full_like(result.labels, 1)
        return replace(result, labels=labels)

    question = segmenter.ask("cat; dog")
    summary = run_folder(
        segmenter, list_sources(photos), tmp_path / "out", question, formats=("png",), finish=empty,
        tags=lambda source: TAGS[source.relative.name],
    )  # fmt: skip
    assert {name: [Path(p).name for p in pictures] for name, pictures in summary.missing.items()} == {
        "cat": ["p1.png"], "dog": ["p1.png", "p2.png"]
    }  # fmt: skip
    said = list(summary.remarks())
    assert len(said) == 2 and any("'cat' was said to be in" in line and "has no pixel there" in line for line in said)


def test_doubt_is_left_open_where_a_class_has_no_pixel(segmenter):
    shown = segmenter(np.random.default_rng(5).integers(0, 256, (48, 48, 3), dtype=np.uint8), tags=["cat", "dog"])
    confidence = np.linspace(0, 1, 48 * 48, dtype=np.float32).reshape(48, 48)
    full = replace(shown, labels=np.ones((48, 48), np.uint8), confidence=confidence, extras={})
    both = np.ones((48, 48), np.uint8)
    both[:3] = 2
    source = Source("x.png", PurePosixPath("x"))
    open_ = _finished(Path("nowhere"), 0.0, 0.5, False, source, full)
    assert abs(float((open_.labels == 255).mean()) - 0.5) < 0.01
    assert not (_finished(Path("nowhere"), 0.0, 0.0, False, source, full).labels == 255).any()
    assert not (_finished(Path("nowhere"), 0.0, 0.5, False, source, replace(full, labels=both)).labels == 255).any()


def test_labels_are_compared_by_content():
    boxes = (("cat", 1, 2, 3, 4), ("dog", 0, 0, 9, 9))
    scribbles = np.full((4, 4), 255, np.uint8)
    assert labels_digest(WeakLabels(boxes=boxes)) == labels_digest(WeakLabels(boxes=boxes[::-1]))
    digests = [
        labels_digest(labels)
        for labels in (
            None, WeakLabels(), WeakLabels(tags=()), WeakLabels(boxes=boxes), WeakLabels(boxes=boxes[:1]),
            WeakLabels(points=(("cat", 1, 2),)), WeakLabels(scribbles=scribbles), WeakLabels(scribbles=scribbles * 0),
        )
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)


def test_a_bank_keeps_what_it_was_asked_with(segmenter, photos, tmp_path):
    mask = np.zeros((48, 48), np.uint8)
    mask[8:30, 8:30] = 1
    picture = Image.open(photos / "p0.png").convert("RGB")
    bank = segmenter.bank([Support(picture, mask, "cat"), Support(picture, np.roll(mask, 9, 0), "dog")]).focus(["cat"])
    read = load_bank(bank.save(tmp_path / "bank.safetensors"), segmenter.backbone)
    assert read.asked == ("cat",) and read.sizes == bank.sizes and read.digest() == bank.digest()
    assert all(entry.content for entry in read.entries)
    assert bank.focus(["dog"]).digest() != bank.digest() != bank.select(["cat"]).digest()
    bigger = segmenter.variant(short_side=96)
    with pytest.warns(BankWarning, match=r"short_side=.*\(now 96\)"):
        bigger.ask(supports=tmp_path / "bank.safetensors")
