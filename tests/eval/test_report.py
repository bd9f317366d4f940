"""The report: what stands in it, what it warns of, and that it works without matplotlib."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from fakes_eval import FakeSegmenter
from hypothesis import given
from hypothesis import strategies as st

from clipseg_ws.eval.datasets import AVG8, DATASETS
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.predictors.checks import Oracle
from clipseg_ws.eval.predictors.segmenter import SegmenterPredictor
from clipseg_ws.eval.report import plots
from clipseg_ws.eval.report.pages import Heading, Table, Text, markdown, page
from clipseg_ws.eval.report.published import PRESETS, against_presets, load_published, means, same_task, warnings
from clipseg_ws.eval.report.writer import write_report
from clipseg_ws.eval.run.evaluation import Options, evaluate
from clipseg_ws.eval.tables import COLUMNS, put_rows


def row(**given) -> dict[str, str]:
    """A results row as read back."""
    base = dict.fromkeys(COLUMNS, "") | {
        "run_id": "r", "dataset": "voc21", "split": "val", "setting": "zero", "labels_read": "none", "method": "sclip",
        "backbone": "ViT-B-16-quickgelu", "weights": "openai", "resize": "336", "window": "224", "stride": "112",
        "logit_scale": "65.0", "threshold": "0.1", "templates": "imagenet80", "n_images": "1449", "n_failed": "0",
        "mIoU": "0.5",
    }  # fmt: skip
    return base | given


def frame(rows) -> pd.DataFrame:
    """Results rows as a table of text."""
    return pd.DataFrame(rows, dtype=object)


def test_published_numbers_are_the_listed_ones(shared):
    with open(shared / "published.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(load_published()) == len(listed) > 70
    for given_row, read in zip(listed, load_published().itertuples(), strict=True):
        assert float(given_row["value"]) == read.value and given_row["source"] == read.source != ""
        assert read.dataset in (*DATASETS, "avg8")
    assert set(PRESETS) <= set(load_published()["method"])
    best = same_task("voc21", "zero")
    assert best["value"].is_monotonic_decreasing and (best["setting"] == "zero").all() and len(best) > 5


def test_a_run_by_the_protocol_has_nothing_to_warn_of():
    published = same_task("voc21", "zero")
    assert warnings(row(), {"dataset": {"expected": 1449}}, published) == []
    assert not [line for line in against_presets(row(), published) if line.startswith("sclip")]


@pytest.mark.parametrize(
    "changed, config, words",
    [
        ({"n_images": "223"}, {"dataset": {"expected": 1449}}, "223 of the 1449 pictures"),
        ({"n_failed": "3"}, {}, "3 pictures failed"),
        ({"split": "train"}, {}, "split train, published on val"),
        ({"labels_read": "tags from masks"}, {}, "tags from masks: published runs read the official"),
        ({"backbone": "nano", "weights": "nano"}, {}, "backbone nano, published with ViT-B/16"),
        ({"weights": "laion2b_s34b_b88k"}, {}, "weights laion2b_s34b_b88k"),
        ({"fold": "1"}, {}, "fold 1 alone"),
        ({}, {"dataset": {"notes": {"episodes": "drawn, seed 0"}}}, "episodes drawn here"),
        ({"setting": "oracle"}, {}, "reads the truth"),
    ],
)
def test_every_difference_is_said_plainly(changed, config, words):
    lines = warnings(row(**changed), config, same_task("voc21", "zero"))
    assert len(lines) == 1 and words in lines[0]


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"resize": "448"}, "resize 448 (336)"),
        ({"window": "whole", "stride": ""}, "window whole (224), stride none (112)"),
        ({"threshold": "(1-max)^1.0"}, "threshold (1-max)^1.0 (0.1)"),
        ({"logit_scale": "40.0"}, "logit_scale 40.0 (65.0)"),
        ({"templates": "clip-es"}, "templates clip-es (imagenet80)"),
    ],
)
def test_differences_from_a_paper_are_listed_with_its_values(changed, words):
    (line,) = [v for v in against_presets(row(**changed), same_task("voc21", "zero")) if v.startswith("sclip")]
    assert line == f"sclip: {words}"


def test_means_over_folds_and_over_the_eight():
    folds = [row(run_id=str(f), dataset="pascal5i", fold=str(f), setting="few-1", mIoU=str(f / 10)) for f in range(4)]
    assert means(frame(folds[:3]), AVG8).empty
    (mean,) = means(frame(folds), AVG8).to_dict("records")
    assert mean["split"] == "mean" and float(mean["mIoU"]) == pytest.approx(0.15) and mean["n_images"] == str(4 * 1449)
    eight = [row(run_id=name, dataset=name, mIoU=str(i / 10)) for i, name in enumerate(AVG8)]
    (average,) = means(frame(eight), AVG8).to_dict("records")
    assert average["dataset"] == "avg8" and float(average["mIoU"]) == pytest.approx(0.35)
    assert means(frame([*eight[:7], row(dataset=AVG8[7], weights="laion")]), AVG8).empty


class Balanced(HTMLParser):
    """Notes tags that are not closed, and anything loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.images, self.text = [], [], 0, []

    def handle_starttag(self, tag, attrs):
        self.links += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]
        self.images += tag == "img"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def small_results(folder):
    """Runs on scenes: two weak ones of a fake method, and a check of the harness."""
    for setting in ("weak", "oracle"):
        data = load_dataset("scenes", setting=setting, count=4, size=64)
        predictors = [Oracle()]
        if setting == "weak":
            fakes = [FakeSegmenter(method=m, keep_maps=True) for m in ("default", "inverse")]
            predictors = [SegmenterPredictor(f, data.setting, data.vocabulary) for f in fakes]
        evaluate(data, predictors, folder, options=Options(gallery=1, sweep=setting == "weak"))


@pytest.mark.parametrize("matplotlib", [True, False])
def test_both_pages(tmp_path, monkeypatch, matplotlib):
    if matplotlib:
        pytest.importorskip("matplotlib")
    else:
        monkeypatch.setattr(plots, "available", lambda: False)
    small_results(tmp_path / "results")
    md, html = write_report(tmp_path / "results", tmp_path / "page")
    text = md.read_text()
    assert "## scenes, setting weak" in text and "## scenes, setting oracle" in text
    assert "a check of the harness, no result" in text and "background swept in one pass" in text
    assert ("clipseg_ws[plots]" in text.replace("\\", "")) != matplotlib
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(pictures) == 6 + 3 * matplotlib and all((tmp_path / "page" / p).is_file() for p in pictures)
    parser = Balanced()
    parser.feed(html.read_text())
    assert not parser.open and not parser.links and parser.images == len(pictures)
    assert "butterfly" in parser.text and "100.00" in parser.text


def test_published_numbers_stand_beside_the_runs(tmp_path):
    put_rows(tmp_path / "results.csv", COLUMNS, [row(mIoU="0.6012")], "r")
    text = write_report(tmp_path)[0].read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    place = {name: i for i, line in enumerate(lines) for name in ("Trident", "SCLIP", "60.12") if name in line}
    assert place["Trident"] < place["60.12"] < place["SCLIP"]  # 67.1, 60.12, 59.1
    assert "**60.12**" in lines[place["60.12"]] and "OV-Stitcher table 1" in text


def test_a_folder_without_results_says_what_writes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="clipseg-ws eval scenes"):
        write_report(tmp_path)


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), max_size=30))
def test_no_text_can_break_the_pages(text):
    blocks = [Heading(text), Text(text), Table(("a",), [(text,)])]
    parser = Balanced()
    parser.feed(page(blocks, text))
    assert not parser.open and "".join(parser.text).count(text) >= 3
    rows = [line for line in markdown(blocks, None).split("\n") if line.startswith("| ") and line.endswith(" |")]
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)\|", line)) == 2 for line in rows)
