"""Names out of data: they never leave their folder, run nothing in a spreadsheet and make no link."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipseg_ws.eval.report.pages import Heading, Table, Text, Warnings, markdown, page
from clipseg_ws.eval.report.writer import write_report
from clipseg_ws.eval.tables import CLASS_COLUMNS, COLUMNS, put_rows, read_table
from clipseg_ws.files import ErrorsCsv, append_csv, csv_cell, file_name
from clipseg_ws.output.save import output_paths

FORMULAS = ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_shows_cells(tmp_path, text):
    append_csv(tmp_path / "a.csv", {"image": text, "n": -2})
    ErrorsCsv(tmp_path / "errors.csv").add(text, ValueError("=1"))
    for file in ("a.csv", "errors.csv"):
        rows = csv.reader(io.StringIO((tmp_path / file).read_bytes().decode(), newline=""))
        assert not [cell for row in rows for cell in row if cell[:1] in "=+-@\t\r" and cell != "-2"]
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-0.5", "+3", "-1e-3", -2, 0.5, "a=b", "", "'=1", None])
def test_numbers_and_other_cells_stay(value):
    assert csv_cell(value) == value


def test_tables_of_runs_escape_once(tmp_path):
    path = tmp_path / "per_class.csv"
    for _ in range(3):
        put_rows(path, CLASS_COLUMNS, [{"run_id": "r", "class": "=1+1", "iou": -0.5, "pixels": 3}], "r")
        put_rows(path, CLASS_COLUMNS, [{"run_id": "s", "class": "x\r=1", "iou": 0.5, "pixels": 3}], "s")
    assert list(read_table(path, CLASS_COLUMNS)["class"]) == ["'=1+1", "x =1"]
    assert list(read_table(path, CLASS_COLUMNS)["iou"]) == ["-0.5", "0.5"]


PATHS = ["../../../evil", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:x", "\0"]


@given(st.text(max_size=300) | st.sampled_from(PATHS))
def test_a_file_name_stays_in_its_folder(text):
    name = file_name(text)
    assert name and "/" not in name and "\\" not in name and "\0" not in name and name[0] != "."
    assert len(name) <= 120 and file_name(text) == name
    if name != text:
        assert file_name(text + "x") != name


def test_a_report_of_a_data_set_with_a_path_as_its_name(tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "a" / "b" / "c" / "results"
    folder.mkdir(parents=True)
    row = dict.fromkeys(COLUMNS, "") | {
        "run_id": "../../../evil", "dataset": "../../../evil", "setting": "zero", "method": "[x](http://evil)<b>",
        "mIoU": "0.5", "n_images": "3", "split": "val",
    }  # fmt: skip
    put_rows(folder / "results.csv", COLUMNS, [row], row["run_id"])
    (folder / "gallery").mkdir()
    write_report(folder)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and all(path.is_relative_to(folder) for path in files)


def test_links_and_tags_in_reports_are_text(tmp_path):
    words = "<script>x</script> [a](http://evil.example) ![b](c) www.evil.example me@evil.example | # `x`"
    blocks = [Heading(words), Text(words), Warnings([words]), Table([words], [[words]], frozenset())]
    html, text = page(blocks, words), markdown(blocks, tmp_path)
    assert "<script>" not in html and "<script>" not in text
    assert not re.search(r"(?<!\\)\]\(", text) and "http://" not in text
    assert "www.evil" not in text and "me@evil" not in text


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", ".."])
def test_results_lie_below_the_output_folder(tmp_path, name):
    with pytest.raises(ValueError, match="below the output folder"):
        output_paths(tmp_path, name, ["png"])
