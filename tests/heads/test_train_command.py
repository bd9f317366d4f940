"""The command ``train``: from masks or tags to a head's file, by every scheme, in one process or two."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers_heads import FAST, call, few_classes
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws.cli.app import app
from clipseg_ws.heads.file import load_head
from clipseg_ws.output.formats.png import write_label_png

pytest_plugins = ("fixtures_heads",)


def test_train_predict_and_eval_by_the_command_line(scenes, tmp_path):
    file = tmp_path / "head.safetensors"
    two = few_classes(scenes, tmp_path)
    output = call("train", two, "--images", scenes / "photos", "-o", file, *FAST, "--validation", "0.3")
    assert "6 of 6 pictures have a mask; 2 classes" in output and "6 steps, mIoU" in output
    work = tmp_path / "head_training"
    assert (work / "log.csv").exists() and (work / "checkpoint.pt").exists() and list((work / "events").iterdir())
    module, card = load_head(file)
    assert card.classes == ("odd", "even") and card.backbone == "nano" and card.features.short_side == 64
    assert card.training["pictures"] == 4 and module.labels == 3
    call("predict", scenes / "photos" / "p0.png", "--head", file, "-o", tmp_path / "out", "--dtype", "float32")
    written = json.loads((tmp_path / "out" / "p0.json").read_text())
    assert written["names"] == ["odd", "even"] and written["setting"] == "head"
    assert written["config"]["model"] == "nano" and written["config"]["head"]["kind"] == "decoder"
    bigger = call("train", two, "--images", scenes / "photos", "-o", tmp_path / "wide.safetensors", *FAST,
                  "--more-scales", "0.5", "--augment")  # fmt: skip
    assert "6 steps" in bigger and load_head(tmp_path / "wide.safetensors")[1].features.more_scales == (0.5,)
    call("predict", scenes / "photos" / "p0.png", "--head", tmp_path / "wide.safetensors", "-o", tmp_path / "out-wide",
         "--dtype", "float32")  # fmt: skip
    again = call("train", two, "--images", scenes / "photos", "-o", file, *FAST, "--validation", "0.3")
    assert "6 steps" in again and len((work / "log.csv").read_text().splitlines()) == 7  # nothing was done twice
    mask = np.array(Image.open(two / "masks" / "p1.png"))
    write_label_png(mask[::-1].copy(), two / "masks" / "p1.png", classes=2)  # as many pixels, elsewhere
    words = ["train", two, "--images", scenes / "photos", "-o", file, *FAST, "--validation", "0.3"]
    changed = CliRunner().invoke(app, [str(word) for word in words])
    assert changed.exit_code and "pictures and masks: " in changed.output + repr(changed.exception)
    root = tmp_path / "data"
    root.mkdir()
    (root / "images").symlink_to(scenes / "photos")
    (root / "masks").symlink_to(two / "masks")
    (root / "classes.yaml").write_text("classes: [odd, even]\n")
    call("eval", "folder", "--root", root, "--dtype", "float32", "--method", f"head:{file}",
         "-o", tmp_path / "results", "--limit", "2", "--gallery", "0")  # the head names its model
    with open(tmp_path / "results" / "results.csv", newline="") as rows:
        (row,) = csv.DictReader(rows)
    assert row["method"] == f"head:{file}" and row["resize"] == "64" and float(row["mIoU"]) >= 0
    assert row["threshold"] == "head" and row["refine"] == "affinity+guided"


def test_a_model_must_be_named(tmp_path):
    done = CliRunner().invoke(app, ["train", str(tmp_path), "--images", str(tmp_path)])
    assert isinstance(done.exception, ValueError)
    assert "train needs a model: --model ViT-B-16-quickgelu/openai, or --model photo" in str(done.exception)


def test_from_tags_to_a_head(scenes, tmp_path):
    kept, tags = ("boat", "flower", "car", "sun"), tmp_path / "tags.csv"  # the tiny scenes show these
    with open(scenes / "tags.csv", newline="") as old, open(tags, "w", newline="") as new:
        for image, names in csv.reader(old):
            shown = names if names == "tags" else ";".join(name for name in names.split(";") if name in kept)
            csv.writer(new).writerow((image, shown))
    file = tmp_path / "head.safetensors"
    output = call("train", "--from-tags", tags, scenes / "photos", "-o", file, "-c", "; ".join(kept), *FAST,
                  "--weighting", "soft", "--validation", "0")  # fmt: skip
    assert "6 done" in output and load_head(file)[1].classes == kept


@pytest.mark.parametrize("scheme", ["consistency", "rounds", "cotrain", "feedback"])
def test_schemes_by_the_command_line(scenes, tmp_path, scheme):
    more = ["--unlabelled", scenes / "photos"] if scheme == "cotrain" else []
    file = tmp_path / "head.safetensors"
    two = few_classes(scenes, tmp_path)
    call("train", two, "--images", scenes / "photos", "-o", file, *FAST, "--scheme", scheme, *more)
    assert load_head(file)[1].training["scheme"] == scheme
    if scheme == "consistency":
        with open(tmp_path / "head_training" / "log.csv", newline="") as rows:
            assert any(row["other"] for row in csv.DictReader(rows))


def test_adding_classes_keeps_the_old_ones(scenes, trained, tmp_path):
    masks = tmp_path / "new"
    for path in sorted((scenes / "masks" / "masks").glob("*.png")):
        labels = np.asarray(Image.open(path))
        write_label_png((labels > 6).astype(np.uint8), masks / "masks" / path.name)
    (masks / "classes.txt").write_text("background\nlater\n")
    file = tmp_path / "grown.safetensors"
    call("train", masks, "--images", scenes / "photos", "-o", file, *FAST, "--add-to", trained, "--lr", "1e-5")
    module, card = load_head(file)
    old, _ = load_head(trained)
    assert card.classes == ("odd", "even", "later") and module.labels == 4
    drift = (module.classify.weight[: 3 * 4] - old.classify.weight).abs().max()
    assert drift < 1e-3
    result = CliRunner().invoke(app, [str(a) for a in ("train", masks, "--images", scenes / "photos", "-o",
                                tmp_path / "x.safetensors", *FAST, "--add-to", file)])  # fmt: skip
    assert "among the old head's classes" in str(result.exception)


def test_two_processes_through_accelerate_equal_one(scenes, tmp_path):
    pytest.importorskip("accelerate")
    two = few_classes(scenes, tmp_path)
    common = ["train", two, "--images", scenes / "photos", *FAST, "--validation", "0", "--device", "cpu",
              "--kind", "decoder(hidden=8, depth=1, upsample=2, dropout=0.0)", "--work"]  # fmt: skip
    call(*common, tmp_path / "one", "-o", tmp_path / "one.safetensors")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    launch += ["-m", "clipseg_ws"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *map(str, common), str(tmp_path / "two"), "-o", str(tmp_path / "two.safetensors")],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]

    def losses(name):
        with open(tmp_path / name / "log.csv", newline="") as file:
            return [float(row["loss"]) for row in csv.DictReader(file)]

    assert losses("two") == pytest.approx(losses("one"), rel=1e-3)
    one, both = load_head(tmp_path / "one.safetensors")[0], load_head(tmp_path / "two.safetensors")[0]
    for a, b in zip(one.parameters(), both.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3)
