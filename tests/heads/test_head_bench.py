"""The benchmark of caching and training runs and says what it measured."""

from __future__ import annotations

import csv

from clipseg_ws.eval.bench.heads import bench
from clipseg_ws.eval.tables import write_table


def test_rows(tmp_path):
    sizes = {"pictures": 3, "side": 48, "batches": (1, 2), "steps": 1}
    rows = list(bench("nano", kind="linear", device="cpu", dtype="float32", **sizes))
    assert [row["batch"] for row in rows] == [1, 2] and rows[0]["gpu_memory_mib"] == 0
    for row in rows:
        assert min(row["forward_per_second"], row["caching_per_second"], row["training_per_second"]) > 0
        assert row["head_parameters"] == 3 * 192 * 21 + 21
    write_table(tmp_path / "table.csv", tuple(rows[0]), rows)
    with open(tmp_path / "table.csv", newline="") as file:
        assert [int(row["batch"]) for row in csv.DictReader(file)] == [1, 2]


def test_more_pictures_than_are_kept_in_memory(monkeypatch):
    monkeypatch.setattr("clipseg_ws.eval.bench.heads.DISTINCT", 2)
    (row,) = bench("nano", pictures=5, side=32, batches=(2,), steps=1, kind="linear", device="cpu", dtype="float32")
    assert row["pictures"] == 5 and row["caching_per_second"] > 0
