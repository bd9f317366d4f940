"""Names, examples, tags and marks together on the command line give what Python gives; shards, limits, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drawn import scene, shown
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws import Segmenter, WeakLabels
from clipseg_ws.cli.app import app, main
from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.output.formats.png import read_label_png

MODEL = ["--model", "nano", "--dtype", "float32", "--set", "short_side=224", "--batch-size", "1"]
SEEDS = (1, 2, 5, 6)
TWO, FIRST = SEEDS[:2], ["--limit", "2"]


@pytest.fixture(scope="module")
def segment():
    return Segmenter("nano", dtype="float32", short_side=224, batch_size=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Four pictures, an example of a boat, tags and boxes of all."""
    root = tmp_path_factory.mktemp("root")
    (root / "photos").mkdir()
    lines, images, boxes = ["image,tags"], [], []
    for seed in SEEDS:
        drawn = scene(seed)
        Image.fromarray(drawn.image).save(root / "photos" / f"{seed}.png")
        lines.append(f"{seed}.png,{';'.join(drawn.tags)}")
        images.append({"id": seed, "file_name": f"{seed}.png"})
        for tag in drawn.tags:
            rows, columns = np.nonzero(drawn.labels == KINDS.index(tag) + 1)
            x, y = int(columns.min()), int(rows.min())
            box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
            boxes.append({"image_id": seed, "category_id": KINDS.index(tag) + 1, "bbox": box})
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(KINDS)]
    (root / "boxes.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    example = shown(2, "boat")
    Image.fromarray(example.image).save(root / "boat.png")
    Image.fromarray(example.mask * 255).save(root / "boat_mask.png")
    return root


def call(command: str, root: Path, out: Path, *args: object, code: int = 0):
    done = CliRunner().invoke(app, [command, str(root / "photos"), "-o", str(out), *MODEL, *map(str, args)])
    assert done.exit_code == code, f"{done.output} {done.exception!r}"
    return done


def written(out: Path) -> dict[int, np.ndarray]:
    return {seed: read_label_png(out / f"{seed}.png") for seed in SEEDS if (out / f"{seed}.png").exists()}


def same(out: Path, results: dict) -> None:
    found = written(out)
    assert found.keys() == results.keys()
    for seed, result in results.items():
        assert np.array_equal(found[seed], result.labels), seed


def picture(root: Path, seed: int) -> str:
    return str(root / "photos" / f"{seed}.png")


def marks(seed: int, root: Path, *, tags: bool = False) -> WeakLabels:
    content = json.loads((root / "boxes.json").read_text())
    entries = [(KINDS[b["category_id"] - 1], b["bbox"]) for b in content["annotations"] if b["image_id"] == seed]
    boxes = tuple((name, x, y, x + w, y + h) for name, (x, y, w, h) in entries)
    return WeakLabels(tags=tuple(scene(seed).tags) if tags else None, boxes=boxes)


def test_predict_takes_tags_and_marks(segment, root, tmp_path):
    call("predict", root, tmp_path / "m", "--marks", root / "boxes.json", *FIRST, "-c", "; ".join(KINDS))
    same(tmp_path / "m", {s: segment(picture(root, s), classes=KINDS, weak=marks(s, root)) for s in TWO})
    call("predict", root, tmp_path / "b", "--marks", root / "boxes.json", "--tags", root / "tags.csv", *FIRST)
    same(tmp_path / "b", {s: segment(picture(root, s), weak=marks(s, root, tags=True)) for s in TWO})


def test_fewshot_takes_names_tags_and_marks(segment, root, tmp_path):
    support = ["--support", root / "boat.png", root / "boat_mask.png", "boat"]
    bank = segment.bank((str(root / "boat.png"), str(root / "boat_mask.png"), "boat"))
    names = "; ".join(KINDS)
    call("fewshot", root, tmp_path / "t", *support, "-c", names, "--tags", root / "tags.csv", *FIRST)
    results = {s: segment(picture(root, s), classes=names, supports=bank, tags=list(scene(s).tags)) for s in TWO}
    same(tmp_path / "t", results)
    record = json.loads((tmp_path / "t" / "1.json").read_text())
    assert record["setting"] == "few" and record["config"]["supports"] == {"boat": 1}
    call("fewshot", root, tmp_path / "m", *support, "-c", names, "--marks", root / "boxes.json", *FIRST)
    results = {s: segment(picture(root, s), classes=names, supports=bank, weak=marks(s, root)) for s in TWO}
    same(tmp_path / "m", results)
    call("fewshot", root, tmp_path / "alone", *support, "--tags", "boat", "--limit", 2)
    assert sorted(written(tmp_path / "alone")) == [1, 2]
    assert json.loads((tmp_path / "alone" / "1.json").read_text())["names"] == ["boat"]


def test_a_track_with_tags(root, tmp_path):
    support = ["--support", root / "boat.png", root / "boat_mask.png", "boat"]
    call("fewshot", root, tmp_path, *support, "--tags", "boat", "--track", "--every", 1)
    assert len(written(tmp_path)) == 4 and (tmp_path / "track.safetensors").exists()


def test_pseudo_takes_examples(segment, root, tmp_path):
    support = ["--support", root / "boat.png", root / "boat_mask.png", "boat"]
    common = ["--refine", "none", "--confidence", 0]
    call("pseudo", root, tmp_path / "alone", *support, *common, *FIRST)
    plain = segment.variant("clip-es", short_side=224)
    bank = plain.bank((str(root / "boat.png"), str(root / "boat_mask.png"), "boat"))
    same(tmp_path / "alone" / "masks", {s: plain(picture(root, s), supports=bank) for s in TWO})
    assert (tmp_path / "alone" / "classes.txt").read_text().split() == ["background", "boat"]
    names = "; ".join(KINDS)
    call("pseudo", root, tmp_path / "both", *support, *common, "-c", names, "--tags", root / "tags.csv", *FIRST)
    results = {
        s: plain(picture(root, s), classes=names, supports=bank, weak=WeakLabels(tags=tuple(scene(s).tags)))
        for s in TWO
    }
    same(tmp_path / "both" / "masks", results)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_background_none_is_none(segment, root, tmp_path, engine, monkeypatch):
    """The words were resolved twice once, and "none" became "not said"."""
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra 'ray' is not installed")
        monkeypatch.chdir(tmp_path)  # Ray's workers import from the working folder first
    names = "; ".join(KINDS[:4])
    call("predict", root, tmp_path, "-c", names, "--background", "none", "--engine", engine, "--limit", 2)
    same(tmp_path, {s: segment(picture(root, s), classes=names, background=()) for s in SEEDS[:2]})
    for seed in SEEDS[:2]:
        assert json.loads((tmp_path / f"{seed}.json").read_text())["config"]["vocabulary"]["background"] == []
    said = {s: segment(picture(root, s), classes=names).labels for s in SEEDS[:2]}
    assert any(not np.array_equal(said[s], labels) for s, labels in written(tmp_path).items())


def test_background_none_for_pseudo_masks(segment, root, tmp_path):
    names = "; ".join(KINDS)
    call("pseudo", root, tmp_path, "-c", names, "--tags", root / "tags.csv", "--background", "none", "--refine", "none",
         "--confidence", 0, "--format", "json", "--method", "default")  # fmt: skip
    plain = segment.variant(refine="none")
    results = {
        s: plain(picture(root, s), classes=names, background=(), weak=WeakLabels(tags=tuple(scene(s).tags)))
        for s in SEEDS
    }
    same(tmp_path / "masks", results)
    record = json.loads((tmp_path / "masks" / "1.json").read_text())
    assert record["config"]["vocabulary"]["background"] == []


def test_shards_and_limits_share_a_folder(root, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    call("predict", root, whole, "-c", "house; tree", "--limit", 3)
    first = call("predict", root, parts, "-c", "house; tree", "--limit", 3, "--shard", "1/2", "--format", "png,coco")
    assert "2 done" in first.output and "run again without --shard" in first.output
    assert not (parts / "coco.json").exists()
    assert "1 done" in call("predict", root, parts, "-c", "house; tree", "--limit", 3, "--shard", "2/2").output
    assert {k: v.tobytes() for k, v in written(whole).items()} == {k: v.tobytes() for k, v in written(parts).items()}
    (root / "photos" / "broken.jpg").write_text("text")
    try:
        failed = call("predict", root, parts, "-c", "house", "--shard", "5/5", code=1)
        assert "errors-5-of-5.csv" in failed.output and (parts / "errors-5-of-5.csv").exists()
    finally:
        (root / "photos" / "broken.jpg").unlink()


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("predict", ["-c", "; ".join(KINDS)]),
        ("fewshot", ["--support", "{}/boat.png", "{}/boat_mask.png", "boat"]),
        ("pseudo", ["--tags", "{}/tags.csv", "--refine", "none", "--confidence", "0"]),
    ],
)
def test_every_command_writes_every_kind_of_format(root, tmp_path, command, args):
    args = [a.format(root) for a in args]
    done = call(command, root, tmp_path, *args, "--limit", 2, "--format", "overlay, csv, masks, coco, yolo, voc")
    folder = tmp_path / "masks" if command == "pseudo" else tmp_path
    for name in ("1.png", "1_overlay.png", "1.csv", "1_masks"):
        assert (folder / name).exists(), name
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 2 and "2 pictures in" in done.output
    assert (tmp_path / "yolo").is_dir() and (tmp_path / "voc").is_dir()


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        ("pseudo", ["--head", "h.safetensors", "--support", "{}/boat.png", "-", "boat"], "takes no examples"),
        ("pseudo", [], "no weak labels were given"),
        ("fewshot", ["--support", "{}/boat.png", "-", "boat", "--track", "--engine", "ray"], "--engine local"),
        ("fewshot", ["--support", "{}/boat.png", "-", "boat", "--track", "--shard", "1/2"], "no --shard"),
        ("fewshot", ["--support", "{}/boat.png", "{}/boat_mask.png", "boat", "--tags", "boat; car"], "name car, of"),
        ("predict", ["-c", "house", "--tags", "cow"], "tag 'cow' is not one of the classes"),
        ("predict", ["-c", "house", "--marks", "none.json"], "no marks at 'none.json'"),
        ("predict", ["-c", "house", "--shard", "0/2"], "counting starts at 1"),
        ("predict", ["-c", "house", "--engine", "spark"], "choose one of local, ray"),
        ("predict", ["-c", "house", "--format", "pmg"], "did you mean 'png'"),
        ("predict", ["-c", "house", "--format", "coco(styles=rle)"], "its parameters: style, components"),
        ("predict", ["-c", "house", "--refine", "pamr(iteration=5)"], "its parameters: iterations, dilations"),
        ("predict", ["-c", "house", "--refine", "pmr"], "did you mean 'pamr'"),
        ("predict", ["-c", "house", "--refine", "pamr(iterations=5"], "no closing bracket"),
        ("predict", ["-c", "house", "--set", "saliency.weight=0.5"], "add it with saliency=true"),
        ("predict", ["-c", "house", "--set", "affinity.treshold=0.5"], "its parameters: affinity.threshold"),
        ("predict", ["-c", "house", "--set", "affinity.threshold=2"], "a number in [0, 1]"),
        ("predict", ["-c", "house", "--set", "steps=afinity"], "did you mean 'affinity'"),
        ("predict", ["-c", "house", "--set", "alpha=[1"], "cannot be read"),
        ("predict", ["-c", "house", "--set", "alpha=high"], "alpha='high'"),
        ("predict", ["-c", "house", "--set", "window=224"], "does not read that"),
        ("predict", ["-c", "house", "--method", "clipes"], "did you mean 'clip-es'"),
        ("predict", ["-c", "house", "--background", "stuf26"], "stuff26"),
    ],
)
def test_what_cannot_be_is_one_line_before_the_first_picture(
    root, tmp_path, command, args, message, monkeypatch, capsys
):
    args = [a.format(root) for a in args]
    out = tmp_path / "o"
    line = ["clipseg-ws", command, str(root / "photos"), *args, "--model", "nano", "-o", str(out)]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and message in printed and len(printed.splitlines()) == 1, printed
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "key", "value"),
    [
        (["--set", "saliency=true"], "steps", "saliency(weight=0.3)"),
        (["--set", "affinity.threshold=0.7"], "steps", "threshold=0.7"),
        (["--set", "steps=affinity, saliency(weight=0.5)"], "steps", "saliency(weight=0.5)"),
        (["--set", "looks.scales=[1, 1.5]", "--set", "looks=true"], "steps", "scales=[1, 1.5]"),
        (["--set", "fewshot.refit=prototypes(rounds=1)"], "fewshot", "prototypes(rounds=1)"),
        (["--refine", "pamr(iterations=5, dilations=[8,16])"], "refine", "pamr(iterations=5, dilations=[8, 16])"),
    ],
)
def test_settings_arrive(root, tmp_path, args, key, value):
    support = ["--support", str(root / "boat.png"), str(root / "boat_mask.png"), "boat"]
    call("fewshot", root, tmp_path, *support, "-c", "; ".join(KINDS), "--limit", 1, "--format", "json", *args)
    assert value in str(json.loads((tmp_path / "1.json").read_text())["config"][key])
