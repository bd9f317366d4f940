"""The experiment behind ``photos.csv``, on tiny folders in VOC's layout, at a tiny size: its numbers mean nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace

import layouts_eval as make
import numpy as np
import pytest
from fakes_eval import records

from clipseg_ws.config import resolve
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.experiments import photos
from clipseg_ws.eval.experiments.photo_choice import COLUMNS as CHOICE_COLUMNS
from clipseg_ws.eval.experiments.photo_choice import GRIDS, grid_of, read_grid
from clipseg_ws.eval.experiments.photo_measure import Models, Task, presence
from clipseg_ws.eval.experiments.photo_rows import OTHERS, Row, all_rows, chosen_rows, left_out, more_names
from clipseg_ws.structures import Vocabulary, word_key
from clipseg_ws.text.vocabulary import load_vocabulary

SMALL = {"short_side": 32}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def nano():
    return Models("nano", "cpu", 50)


def config(**given):
    return resolve("default", given)


def masks():
    """Two pictures of one size and one of another; no horse, ignored pixels, another class beside the animals."""
    wide, tall = (24, 40), (40, 24)
    return {
        "a": make.stripes(0, 8, 15, 255, size=wide),
        "b": make.stripes(0, 8, 12, 1, size=wide),
        "c": make.stripes(12, 0, 255, 17, size=tall),
    }


def measured(tmp_path, *words):
    """``main`` on VOC's layout -> its exit code and the rows by key."""
    root, settings = tmp_path / "voc", tmp_path / "settings.json"
    if not root.exists():
        make.voc(root, masks())
    keys = [row.key for row in all_rows(lambda row: config())]
    settings.write_text(json.dumps(dict.fromkeys(keys, SMALL)))
    given = ["--voc", str(root), "--model", "nano", "--settings", str(settings), "-o", str(tmp_path / "out"), *words]
    code = photos.main([*given, "--device", "cpu", "--cache-mb", "50"])
    return code, {row["row"]: row for row in records(tmp_path / "out" / "photos.csv", photos.COLUMNS)}


def test_rows_are_measured_once(tmp_path, capsys, monkeypatch):
    chosen = ("--rows", "weak", "zero", "zero-100", "presence", "cam-*", "boxes")
    code, rows = measured(tmp_path, *chosen)
    assert code == 0 and list(rows) == ["weak", "zero", "presence", "cam-affinity", "cam-picture", "boxes", "zero-100"]
    assert {key: row["labels_read"] for key, row in rows.items() if row["labels_read"] != "none"} == {
        "weak": "tags from masks", "cam-affinity": "tags from masks", "cam-picture": "tags from masks",
        "boxes": "boxes from masks",
    }  # fmt: skip
    for key, row in rows.items():
        assert (row["pictures"], row["failed"], row["model"]) == ("3", "0", "nano") and len(row["weights_sha256"]) == 64
        scores = [row[name] for name in (("precision", "recall") if key == "presence" else ("mIoU", "iou_background"))]
        assert all(0 <= float(value) <= 1 for value in scores) and row["command"].endswith(f"--rows {key}")
        assert row["mIoU"] == "" if key == "presence" else row["precision"] == ""
    ious = [rows["weak"][f"iou_{name}"] for name in photos.CLASSES]
    counted = [float(value) for value in ious if value]
    assert len(counted) in (5, 6, 7) and float(rows["weak"]["mIoU"]) == pytest.approx(np.mean(counted), abs=1e-3)
    assert "zero: mIoU" in capsys.readouterr().out

    monkeypatch.setattr(Task, "measure", lambda self, out: pytest.fail("measured again"))
    code, again = measured(tmp_path, *chosen)
    assert code == 0 and again == rows and capsys.readouterr().out.count("(kept)") == 7


def test_other_settings_are_measured_anew(tmp_path, monkeypatch):
    first = measured(tmp_path, "--rows", "dense")[1]["dense"]
    found = dict.fromkeys(("mIoU", "seconds"), 0.5) | {"labels_read": "", "pictures": 3, "failed": 0}
    monkeypatch.setattr(Task, "measure", lambda self, out: found)
    monkeypatch.setitem(SMALL, "alpha", 3.0)
    second = measured(tmp_path, "--rows", "dense")[1]["dense"]
    assert second["mIoU"] == "0.5" and second["run_id"] != first["run_id"] and "alpha=3.0" in second["settings"]
    assert second["weights_sha256"] == first["weights_sha256"]
    limited = records_of(tmp_path, "--rows", "dense", "--limit", "2")
    assert [row["pictures"] for row in limited] == ["3"]  # the fake says three: in place of the line before


def records_of(tmp_path, *words):
    measured(tmp_path, *words)
    return records(tmp_path / "out" / "photos.csv", photos.COLUMNS)


def test_episodes_are_averaged_over_the_seeds(tmp_path):
    words = ("--rows", "few-1", "few-1-name", "weak-few-1-name", "--episodes", "4", "--seeds", "2")
    rows = measured(tmp_path, *words)[1]
    table = records(tmp_path / "out" / "runs" / "results.csv")
    for key, read in (("few-1", "support masks"), ("few-1-name", "support masks"), ("weak-few-1-name", "support tags")):
        row = rows[key]
        one = [float(line["mIoU"]) for line in table if line["run_id"] in row["run_id"].split()]
        assert len(one) == 2 and float(row["mIoU"]) == pytest.approx(np.mean(one), abs=1e-4)
        assert float(row["sd"]) == pytest.approx(np.std(one, ddof=1), abs=1e-4)
        assert row["labels_read"] == read and row["pictures"] == "8" and row["iou_horse"] == ""


def test_what_a_model_has_not_is_left_out_and_said(tmp_path, capsys):
    code, rows = measured(tmp_path, "--rows", "few-1-stem")
    assert code == 1 and not rows and "few-1-stem: left out: " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        measured(tmp_path, "--rows", "week")
    assert "'week' is no row; the rows are weak, zero" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        photos.main(["--model", "nano", "-o", str(tmp_path)])
    assert "--voc ROOT is needed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        photos.main(["--model", "nano", "--voc", str(tmp_path / "nowhere"), "-o", str(tmp_path)])
    assert "does not exist; expected:" in capsys.readouterr().err
    assert measured(tmp_path, "--rows", "weak", "--minutes", "0") == (1, {})
    assert "weak: left out: the time is up" in capsys.readouterr().out


def test_rows_by_key():
    rows = all_rows(lambda row: config())
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys) and {key for row in rows for key in row.base} <= set(keys)
    assert [row.key for row in chosen_rows(rows, ["few-1*", "zero"])] == [
        "zero", "few-1", "few-1-name", *(f"few-1-stem{kind}" for kind in ("", "-panet", "-pfenet", "-hsnet"))
    ]  # fmt: skip
    for row in rows:
        resolve(row.method, row.given)  # every key is a setting
        assert row.stem == (row.method == "prototypes" or "stem" in row.key)
    assert "zero-without-presence" in keys and "weak-without-presence" not in keys
    shorter = left_out(Row("weak", "", "weak"), config(affinity=False, refine="none", looks=True))
    names = ("looks", "competition", "dense-map", "gradcam")
    assert [row.key for row in shorter] == [f"weak-without-{name}" for name in names]
    assert all(grid_of(row) for row in rows if "without" not in row.key)
    for key, grid in (("few-5", "few"), ("weak-few-1", "weak-few"), ("cam-picture", "cam"), ("zero", "zero")):
        assert grid_of(Row(key, "", key)) is GRIDS[grid]


def test_chosen_settings():
    chosen = {"weak": {"alpha": 2, "affinity.threshold": 0.6, "refine": "pamr"}, "cam": {"pool": "cls"}}
    weak = Row("weak", "", "weak").with_chosen(chosen)
    boxes = Row("boxes", "", "boxes", base=("weak",)).with_chosen(chosen)
    assert weak.given == boxes.given == chosen["weak"] and not Row("zero", "", "zero").with_chosen(chosen).given
    without = Row("weak-without-affinity", "", "weak", settings={"affinity": False}, base=("weak",)).with_chosen(chosen)
    assert without.given == {"alpha": 2, "refine": "pamr", "affinity": False}  # no threshold of what does not run
    few = Row("few-5-name", "", "few-5", base=("few-1-name", "few-1"))
    assert few.with_chosen({"few-1": {"alpha": 1}}).given == {"alpha": 1}
    assert few.with_chosen({"few-1": {"alpha": 1}, "few-1-name": {"alpha": 2}}).given == {"alpha": 2}
    dense = Row("weak", "", "weak", settings={"steps": "none", "refine": "none"}).with_chosen(chosen)
    assert dense.given == {"alpha": 2, "steps": "none", "refine": "none"}


def test_more_names():
    voc = load_vocabulary("voc-names")
    assert len(set(map(word_key, OTHERS))) == len(OTHERS) >= 80 and not {*OTHERS} & {*voc.names}
    anything = more_names(voc, ())
    assert anything.names == voc.names + OTHERS[:80] and anything.synonyms[-1] == (OTHERS[79],)
    some = [*voc.names, *OTHERS[5:40], *(f"thing {i}" for i in range(60))]
    few = more_names(voc, some)
    assert len(few.names) == 100 and few.names[20:55] == OTHERS[5:40] and few == more_names(voc, some[::-1])
    assert len(more_names(voc, ["house", "Cat"]).names) == 21  # as many as there are


def test_presence_counts_pairs_of_picture_and_name(tmp_path):
    make.voc(tmp_path, {"a": make.stripes(0, 8, 1, 255), "b": make.stripes(0, 12)})
    data = load_dataset("voc21", tmp_path, prompts="voc-names")
    said = [("cat", "dog"), ("dog", "sheep")]

    class Told:
        def ask(self, vocabulary: Vocabulary):
            return vocabulary.names

        def answer(self, question, images):
            assert len(question) == 20
            return [SimpleNamespace(present=said.pop(0)) for _ in images]

    found = presence(Told(), data)  # cat of cat and aeroplane; dog of dog
    assert found["precision"] == 2 / 4 and found["recall"] == 2 / 3 and found["pictures"] == 2


def chosen_settings(tmp_path, *words):
    """``--choose`` on a small folder -> choice.json and the lines of choice.csv."""
    small, out = tmp_path / "small", tmp_path / "choice"
    if not small.exists():
        make.listing(small / "list.txt", masks())
        for i, (name, labels) in enumerate(masks().items()):
            make.picture(small / "images" / f"{name}.jpg", i, labels.shape)
            make.mask(small / "masks" / f"{name}.png", labels)
    assert photos.main(["--choose", "--small", str(small), "--model", "nano", "-o", str(out), *words]) == 0
    return json.loads((out / "choice.json").read_text()), records(out / "choice.csv", CHOICE_COLUMNS)


def scored(given):
    """A score that likes alpha 3 and no affinity."""
    return 0.5 - 0.1 * abs(given.get("alpha", 4.0) - 3) + 0.05 * (given.get("affinity") is False)


def test_settings_are_chosen_one_after_the_other(tmp_path, monkeypatch, capsys):
    tried = []

    def measure(task, out):
        tried.append(task.row.given)
        assert task.data[0].split == "set-aside"
        return {"mIoU": scored(task.row.given), "pictures": 3, "failed": 0, "seconds": 0.1, "labels_read": "tags"}

    monkeypatch.setattr(Task, "measure", measure)
    words = ("--rows", "weak", "--grid", "alpha=[2, 3, 5]", "affinity=[false]", "affinity.threshold=[0.5]",
             "min_area=[0.001]", "background_threshold=[0.3]")  # fmt: skip
    taken, lines = chosen_settings(tmp_path, *words)
    assert taken == {"weak": {"alpha": 3, "affinity": False}}
    assert [(line["setting"], line["value"], line["taken"]) for line in lines] == [
        ("", "", ""), ("alpha", "2", ""), ("alpha", "3", "yes"), ("alpha", "5", ""), ("affinity", "False", "yes"),
        ("min_area", "0.001", ""),
    ]  # fmt: skip
    assert lines[2]["gain"] == "0.1" and lines[4]["beside"] == "alpha=3" and lines[4]["measure"] == "mIoU"
    out = capsys.readouterr().out
    assert "affinity.threshold=0.5 left out" in out and "background_threshold=0.3 left out" in out

    count = len(tried)
    assert chosen_settings(tmp_path, *words) == (taken, lines) and len(tried) == count  # nothing twice
    assert chosen_settings(tmp_path, *words, "--margin", "0.07")[0] == {"weak": {"alpha": 3}}


def test_choosing_measures(tmp_path):
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"presence": SMALL}))
    words = ("--rows", "presence", "--grid", "presence_threshold=[0.01]", "--settings", str(settings))
    taken, lines = chosen_settings(tmp_path, *words)
    assert taken["presence"].items() >= SMALL.items()
    assert [line["measure"] for line in lines] == ["F1"] * 2 and all(0 <= float(line["score"]) <= 1 for line in lines)


def test_grids():
    assert read_grid(["alpha=[1, 2]", "refine=[none, par(max_side=250, iterations=5)]"]) == {
        "alpha": [1, 2], "refine": ["none", "par(max_side=250, iterations=5)"]
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"alpha=2: a list of values is needed"):
        read_grid(["alpha=2"])
    with pytest.raises(ValueError, match="no grid for the row 'odd'"):
        grid_of(Row("odd", "", "zero"))
