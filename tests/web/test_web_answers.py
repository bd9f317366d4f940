"""Answers of the page: marks with names, reasons, stages, HTML, and the calls that do the same."""

from __future__ import annotations

import json
import runpy
import shlex
import zipfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from engine_web import nano_engine
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws.cli import app as cli
from clipseg_ws.config import resolve
from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.web.ask import Ask, answer, stage_settings, table
from clipseg_ws.web.controls import drawn_picture, drawn_support, make_support
from clipseg_ws.web.recipe import command_call, python_call, write_files
from clipseg_ws.web.render import confidence_view, heat, stages_html, status_html, supports_html, table_html
from clipseg_ws.web.shapes import Shape

NAMES = "; ".join(KINDS)
MARKS = (
    Shape("point", "car", ((50, 100),)),
    Shape("point", "background", ((5, 5),)),
    Shape("box", "house", ((10, 125), (55, 185))),
    Shape("scribble", "sun", ((150, 10), (170, 15.5), (175, 30))),
)


@pytest.fixture(scope="module")
def engine():
    return nano_engine()


@pytest.fixture(scope="module")
def scene():
    return drawn_picture(9_000_075)[0].image.resize((256, 192))  # house, tree, umbrella, butterfly on grass


@pytest.fixture(scope="module")
def marked(engine, scene):
    return answer(engine.segmenter(), Ask(scene, NAMES, MARKS))


def rows(given):
    return {row.name: row for row in table(given)}


def test_names_alone(engine, scene):
    given = answer(engine.segmenter(), Ask(scene, NAMES, settings={"presence_threshold": 0.3}))
    listed = table(given)
    assert [row.label for row in listed[:-1] if not row.present] == sorted(
        row.label for row in listed[:-1] if not row.present
    )
    assert listed[0].share == max(row.share for row in listed[:-1]) and listed[-1].name == "background"
    assert sum(row.share for row in listed) == pytest.approx(1)
    assert rows(given)["tree"].present and "reaches the threshold 0.3" in rows(given)["tree"].why
    assert not rows(given)["fish"].present and "below the threshold 0.3" in rows(given)["fish"].why
    assert [stage.title for stage in given.stages] == [
        "softmax-GradCAM",
        "with the dense map",
        "after affinity and competition",
        "after the picture (guided)",
    ]
    maps = [stage.maps for stage in given.stages]
    assert maps[0].shape == (12, 192, 256)
    assert not any(np.array_equal(one, two) for one, two in pairwise(maps))
    assert given.weak is None and "maps" not in given.result.extras


def test_stages_follow_the_method(engine, scene):
    titles = {
        method: [stage.title for stage in answer(engine.segmenter(), Ask(scene, "tree; car", method=method)).stages]
        for method in ("cam", "sclip", "naclip")
    }
    assert titles == {
        "cam": ["softmax-GradCAM"],
        "sclip": ["softmax over all words"],
        "naclip": ["softmax over all words", "after the picture (pamr)"],
    }
    assert answer(engine.segmenter(), Ask(scene, "tree", stages=False)).stages == ()


STEPS = {"steps": "outliers(share=0.1), affinity(threshold=0.6), suppression, structure", "competition": 0.4}


def test_stages_leave_the_steps_on_the_grid_out(engine, scene):
    asked = Ask(scene, "tree; car", settings=STEPS | {"affinity.exclude_last": True, "refine": "pamr(iterations=2)"})
    given = answer(engine.segmenter(), asked)
    assert [stage.title for stage in given.stages] == [
        "softmax-GradCAM",
        "with the dense map",
        "after suppression and affinity and competition",
        "after the picture (pamr(iterations=2))",
    ]
    plain = engine.segmenter().variant("default", steps="outliers(share=0.1)", refine="none", keep_maps=True)
    expected = plain(scene, classes="tree; car").extras["maps"]
    assert np.array_equal(given.stages[1].maps, expected) and not np.array_equal(given.stages[2].maps, expected)


def test_examples_alone_have_no_dense_maps_to_compete_with():
    config = resolve("default", {})
    assert [title for title, _ in stage_settings(config, True, False)][1] == "after affinity"
    assert [title for title, _ in stage_settings(config, True, True)][1] == "after affinity and competition"
    assert stage_settings(config, False, True)[-1] == ("after the picture (guided)", {})


def test_marks_join_what_names_find(marked):
    found = rows(marked)
    for name in ("car", "sun", "house"):
        assert found[name].present and found[name].why == "you marked it"
    assert found["tree"].present and found["tree"].why.startswith("without marks: score")
    assert not found["fish"].present and "not marked, and without marks" in found["fish"].why
    assert set(marked.weak.tags) == {"car", "sun", "house", "tree", "umbrella", "butterfly"}
    labels, car = marked.result.labels, KINDS.index("car") + 1
    assert labels[100, 50] == car and labels[5, 5] == 0
    outside = labels.copy()
    outside[125:185, 10:55] = 0
    assert not (outside == KINDS.index("house") + 1).any()


def test_only_marked_classes(engine, scene):
    given = answer(engine.segmenter(), Ask(scene, NAMES, MARKS, marked_only=True))
    assert set(np.unique(given.result.labels)) <= {0, *(KINDS.index(n) + 1 for n in ("car", "sun", "house"))}
    assert rows(given)["tree"].why == "not looked for: only marked classes may be there" and given.found is None


def test_words_say_why(engine, scene):
    given = answer(engine.segmenter(), Ask(scene, "tree; fish", method="sclip", stages=False))
    assert "above 0.1" in rows(given)["tree"].why and rows(given)["tree"].present
    high = answer(engine.segmenter(), Ask(scene, "tree", method="sclip", settings={"background_threshold": 1.0}))
    assert not rows(high)["tree"].present and "below 1" in rows(high)["tree"].why


def test_nothing_to_look_for(engine, scene):
    with pytest.raises(ValueError, match="nothing to look for"):
        answer(engine.segmenter(), Ask(scene))


def test_pictures_and_html(marked, engine):
    assert heat(np.array([[0.0, 1.0, np.nan, 7.0]])).tolist() == [
        [[68, 1, 84], [253, 231, 37], [68, 1, 84], [253, 231, 37]]
    ]
    assert confidence_view(marked.result).size == (256, 192)
    html = stages_html(marked)
    assert html.count("<figure>") == 4 * 6 and "after affinity" in html and "data:image/jpeg" in html
    assert table_html(table(marked)).count("<tr class=") == 13
    assert 'data-runs="0"' in status_html(marked, 0) and "did not run again" in status_html(marked, 0)


def test_names_are_escaped(engine, scene):
    given = answer(
        engine.segmenter(),
        Ask(scene, "<img src=x onerror=alert(1)>", (Shape("box", "<img src=x onerror=alert(1)>", ((9, 9), (99, 99))),)),
    )
    for html in (table_html(table(given)), stages_html(given)):
        assert "<img src=x" not in html and "&lt;img src=x" in html


def test_many_absent_names_are_counted_only(engine, scene):
    names = "; ".join(["tree", *(f"thing {i}" for i in range(70))])
    given = answer(engine.segmenter(), Ask(scene, names, stages=False, settings={"presence_threshold": 0.6}))
    html = table_html(table(given))
    assert "more names are not there" in html and html.count("<tr class=") < 10
    assert "switched off" in stages_html(given)


@pytest.fixture(scope="module")
def examples():
    """Two of butterfly, one of tree, drawn."""
    given = []
    for label, number in (("butterfly", 0), ("butterfly", 1), ("tree", 0)):
        picture, mask = drawn_support(label, number)
        small = replace(picture, image=picture.image.resize((256, 192)))
        given.append(make_support(small, "[]", mask[::2, ::2], label))
    return tuple(given)


def test_examples_alone_with_names_and_with_marks(engine, scene, examples):
    segmenter, runs = engine.segmenter(), engine.segmenter().encoder_runs
    alone = answer(segmenter, Ask(scene, supports=examples))
    assert alone.result.names == ("butterfly", "tree") and alone.result.setting == "few"
    assert alone.stages[0].title == "likeness to the examples" and len(alone.stages) == 3
    assert rows(alone)["butterfly"].present and rows(alone)["butterfly"].why.endswith("reaches the threshold 0.4")
    runs, before = segmenter.encoder_runs, runs
    assert runs - before <= 3  # the picture, and the examples in batches
    both = answer(segmenter, Ask(scene, "house; butterfly, moth; fish", supports=examples[:2]))
    assert rows(both)["house"].present and rows(both)["house"].why.endswith("reaches the threshold 0.25")
    weight = both.result.config["fewshot"]["text_weight"]
    assert rows(both)["butterfly"].why.endswith(f"reaches the threshold {0.4 ** (1 - weight) * 0.25**weight:.2g}")
    marks = (Shape("point", "tree", ((220, 30),)), Shape("scribble", "butterfly", ((150, 60), (155, 66))))
    all_three = answer(segmenter, Ask(scene, "house; butterfly; tree", marks, supports=examples))
    assert rows(all_three)["tree"].why == rows(all_three)["butterfly"].why == "you marked it"
    assert rows(all_three)["house"].why.startswith("without marks") and all_three.result.labels[30, 220] == 3
    assert segmenter.encoder_runs == runs
    assert "no single command" in command_call(all_three, "nano", {})
    assert "2: butterfly" in supports_html(examples) and "No examples" in supports_html(())


CASES = {
    "names": {"settings": {"presence_threshold": 0.6, "refine": "none"}},
    "words": {"method": "naclip", "settings": {"background_threshold": 0.3}},
    "steps": {"settings": STEPS | {"affinity.exclude_last": True, "refine": "pamr(iterations=2, dilations=[4])"}},
    "points and boxes": {"shapes": MARKS[:3]},
    "scribbles": {"shapes": MARKS, "marked_only": True},
    "examples": {"classes": None, "settings": {"fewshot": {"presence_threshold": 0.3}}},
    "examples and names": {},
    "background alone": {"shapes": MARKS[1:2], "marked_only": True},
}


@pytest.mark.parametrize("case", CASES)
def test_the_calls_do_the_same(engine, scene, examples, tmp_path, monkeypatch, case):
    asked = Ask(scene, **{"classes": "house, cottage; car; sun; tree"} | CASES[case], stages=False)
    if "example" in case:
        asked = replace(asked, supports=examples)
    given = answer(engine.segmenter(), asked)
    files = write_files(tmp_path / "made", given, engine.model, engine.options, 0.5)
    assert np.array_equal(read_label_png(files.labels), given.result.labels)
    assert json.loads(files.record.read_text())["source"] is None
    with zipfile.ZipFile(files.everything) as archive:
        archive.extractall(tmp_path / "zip")
    monkeypatch.chdir(tmp_path / "zip")
    monkeypatch.setattr("clipseg_ws.segmenter.load_backbone", lambda name, **options: engine.backbone)  # loaded already
    runpy.run_path("run.py")
    assert np.array_equal(read_label_png("out/picture.png"), given.result.labels)
    command = shlex.split((tmp_path / "zip" / "run.sh").read_text().splitlines()[-1])
    assert command[0] == "clipseg-ws" and command[-2:] == ["-o", "out"]
    done = CliRunner().invoke(cli.app, [*command[1:-1], "shell"])
    assert done.exit_code == 0, done.output
    written = "shell/masks/picture.png" if command[1] == "pseudo" else "shell/picture.png"
    assert np.array_equal(read_label_png(written), given.result.labels)


def test_the_calls_name_what_is_unusual(marked):
    options = {"device": "cpu", "dtype": "auto", "offline": True}
    script = python_call(marked, "local-dir:/a b", options)
    assert "Segmenter('local-dir:/a b', method='default', device='cpu', offline=True)" in script
    shell = command_call(marked, "local-dir:/a b", options)
    assert "--model 'local-dir:/a b'" in shell and "--device cpu --offline" in shell
    compile(script, "run.py", "exec")


def test_the_calls_write_steps_by_name(engine, scene):
    steps = engine.segmenter().variant("clip-es").config.steps  # with the threshold that nano recommends
    given = answer(engine.segmenter(), Ask(scene, "tree", settings={"steps": steps, "affinity.threshold": 0.5}))
    script = python_call(given, "nano", {})
    assert "steps='affinity(threshold=0.6, sinkhorn_iterations=3, exclude_last=true)'" in script
    assert "**{'affinity.threshold': 0.5}" in script
    shell = shlex.split(command_call(given, "nano", {}))
    assert "steps=affinity(threshold=0.6, sinkhorn_iterations=3, exclude_last=true)" in shell
    bare = answer(engine.segmenter(), Ask(scene, "tree", settings={"steps": ()}, stages=False))
    assert "steps='none'" in python_call(bare, "nano", {}) and "steps=none" in command_call(bare, "nano", {})


def test_downloads_hold_pixels_only(marked, tmp_path):
    files = write_files(tmp_path, marked, "nano", {}, 0.3)
    for path in tmp_path.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert not image.getexif() and not image.info.get("exif"), path
    with zipfile.ZipFile(files.everything) as archive:
        assert {"picture.png", "marks/picture.json", "scribbles.png", "run.py", "run.sh", "result.png"} <= set(
            archive.namelist()
        )
