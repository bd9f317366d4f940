"""The same through the command line: right masks, refusals with file and row, nothing read that was written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from label_files import annotation, coco, picture, write
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws.cli.app import app
from clipseg_ws.embedded.nano.scenes import draw_scene

SMALL = ["--model", "nano", "--dtype", "float32", "--device", "cpu", "--refine", "none"]


def scene(path, seed, size=112):
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_scene(seed, size)
    image = drawn.image if isinstance(drawn.image, Image.Image) else Image.fromarray(drawn.image)
    image.save(path)
    return drawn.tags


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        done = CliRunner().invoke(app, [*map(str, args), *SMALL])
        return done.exit_code, f"{done.output}{done.exception or ''}"

    return call


def labels(path):
    return np.asarray(Image.open(path))


def test_a_tag_does_not_land_on_another_folders_picture(run, tmp_path):
    tags = scene(tmp_path / "photos/a/1.png", 2)
    scene(tmp_path / "photos/b/1.png", 3)
    write(tmp_path / "tags.csv", f"image,tags\na/1.png,{';'.join(tags)}\n")
    run("pseudo", "photos", "--tags", "tags.csv", "--confidence", 0, "-o", "out")
    assert [p.parent.name for p in (tmp_path / "out").rglob("1.png")] == ["a"]
    assert "b/1.png" in (tmp_path / "out/errors.csv").read_text()


def test_a_box_of_a_larger_picture_is_drawn_at_its_scale(run, tmp_path):
    scene(tmp_path / "p/a.png", 2)
    write(tmp_path / "c.json", coco([annotation(box=[38, 158, 186, 182])], [("a.png", 448, 448)]))
    code, text = run("pseudo", "p", "--marks", "c.json", "--confidence", 0, "-o", "out")
    (mask,) = (m for m in (tmp_path / "out").rglob("a.png"))
    rows, columns = np.nonzero(labels(mask) == 1)
    assert code == 0 and columns.min() >= 9 and columns.max() < 56 and rows.min() >= 39 and rows.max() < 85, text
    picture(tmp_path / "p/a.png", (112, 60))
    code, text = run("pseudo", "p", "--marks", "c.json", "--confidence", 0, "-o", "other")
    assert code == 1 and "448x448 pixels, this one has 112x60" in (tmp_path / "other/errors.csv").read_text()


@pytest.mark.parametrize(
    "table, words",
    [
        ('image,tags\na.png,"tree, mushroom"\n', "'tree, mushroom' holds a comma"),
        ("a.png,tree,0.93\n", "'0.93' is a number"),
        ("Foto,Art\na.png,tree\n", "'Foto,Art' names no picture"),
    ],
)
def test_what_is_no_class_is_refused_before_the_first_picture(run, tmp_path, table, words):
    scene(tmp_path / "p/a.png", 2)
    write(tmp_path / "t.csv", table)
    code, text = run("pseudo", "p", "--tags", "t.csv", "-o", "out")
    assert code != 0 and "t.csv" in text and words in text and not list(tmp_path.glob("out/**/*.png"))


def test_corrected_tags_and_a_replaced_picture_are_done_again_and_said(run, tmp_path):
    shown = {name: scene(tmp_path / f"p/{name}.png", seed) for name, seed in (("a", 2), ("b", 3))}
    wrong = f"image,tags\na.png,{';'.join(shown['b'])}\nb.png,{';'.join(shown['a'])}\n"
    words = ("pseudo", "p", "--tags", "t.csv", "--confidence", 0, "-o", "o", "--format", "yolo")
    write(tmp_path / "t.csv", wrong)
    assert run(*words)[0] == 0
    write(tmp_path / "t.csv", f"image,tags\na.png,{';'.join(shown['a'])}\nb.png,{';'.join(shown['b'])}\n")
    code, text = run(*words)
    assert code == 0 and "2 done again: labels changed" in text
    names = (tmp_path / "o/classes.txt").read_text().split()
    for name, tags in shown.items():
        found = {names[label] for label in np.unique(labels(tmp_path / f"o/masks/{name}.png")) if label not in (0, 255)}
        assert found and found <= set(tags)
    scene(tmp_path / "p/b.png", 5)
    code, text = run(*words)
    assert code == 0 and "1 done again: picture changed" in text and "1 already there" in text
    assert "0 done, 2 already there" in run(*words)[1]


def test_reasons_of_failures_are_printed_and_a_missing_bank_is_said(run, tmp_path):
    tags = scene(tmp_path / "p/a.png", 2)
    write(tmp_path / "p/b.png", "no picture")
    write(tmp_path / "t.csv", f"image,tags\na.png,{tags[0]}\nb.png,{tags[0]}\n")
    code, text = run("pseudo", "p", "--tags", "t.csv", "-o", "o")
    assert code == 1 and "failed: cannot read" in text and "b.png" in text
    for command in (("fewshot", "p"), ("pseudo", "p", "--tags", "t.csv")):
        code, text = run(*command, "--bank", "missing.safetensors", "-o", "other")
        assert code != 0 and "no support bank at 'missing.safetensors'" in text


def test_class_files_and_a_second_run_over_the_working_folder(run, tmp_path):
    scene(tmp_path / "a.png", 2)
    write(tmp_path / "classes.json", ["tree", "mushroom"])
    for _ in range(3):
        code, text = run("predict", ".", "-c", "classes.json")
        assert code == 0, text
    records = [p for p in tmp_path.rglob("*.json") if p.name != "classes.json"]
    assert [p.name for p in records] == ["a.json"] and json.loads(records[0].read_text())["names"] == [
        "tree",
        "mushroom",
    ]
