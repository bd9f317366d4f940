"""Tables keep every character: what was written is read, and written back, as it stands."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest

from clipseg_ws.eval.tables import put_rows, read_table, records, write_table

VALUES = {  # value -> its cell
    1: "1", 0.1: "0.1", 1e-7: "1e-07", np.float64(1 / 3): repr(1 / 3), np.int64(5): "5", None: "", float("nan"): "",
    "1.0": "1.0", "007": "007", "NaN": "NaN", "None": "None", "": "", 'a,"b"': 'a,"b"', "two\nlines": "two\nlines",
    " x ": " x ", (1, 2): "(1, 2)",
}  # fmt: skip


def test_every_kind_of_value(tmp_path):
    path, columns = tmp_path / "t.csv", ("run_id", "value")
    write_table(path, columns, [{"run_id": f"r{i}", "value": value} for i, value in enumerate(VALUES)])
    with open(path, newline="", encoding="utf-8") as file:
        assert [row["value"] for row in csv.DictReader(file)] == list(VALUES.values())
    table = read_table(path, columns)
    assert [row["value"] for row in records(table)] == list(VALUES.values())
    written = path.read_bytes()
    write_table(path, columns, table)
    assert path.read_bytes() == written
    put_rows(path, columns, [{"run_id": "r3", "value": np.float64(1 / 3)}], "r3")  # in its place, the others untouched
    assert [row["run_id"] for row in records(read_table(path))] == [f"r{i}" for i in range(len(VALUES))]


def test_files_that_hold_nothing(tmp_path):
    assert list(read_table(tmp_path / "none.csv", ("a", "b"))) == ["a", "b"]
    (tmp_path / "empty.csv").touch()
    assert read_table(tmp_path / "empty.csv").empty
    with pytest.raises(ValueError, match="another output folder"):
        read_table(tmp_path / "empty.csv", ("a",))
    write_table(tmp_path / "header.csv", ("a", "b"), pd.DataFrame(columns=["a", "b"]))
    assert (tmp_path / "header.csv").read_text() == "a,b\n" and read_table(tmp_path / "header.csv", ("a", "b")).empty
