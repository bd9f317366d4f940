"""Shards: rows and label maps come back as they were written, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipseg_ws.door.errors import InputError
from clipseg_ws.output import shards
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.output.shards import (
    Row,
    about_of,
    list_shards,
    read_about,
    read_shard,
    row_labels,
    row_of,
    shard_place,
    write_shard,
)

pytest.importorskip("pyarrow", reason="the extra 'shards' is not installed")
NAMES = ("cat", "dog", "sofa")


def result(labels: np.ndarray, confidence: np.ndarray | None = None, names: tuple[str, ...] = NAMES) -> Segmentation:
    sure = np.full(labels.shape, 0.5, np.float32) if confidence is None else confidence
    scores = {name: i / 10 for i, name in enumerate(names)}
    return Segmentation(labels=labels, names=names, scores=scores, confidence=sure, setting="zero", config={})


@settings(max_examples=50, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 3, 255])))
def test_labels_come_back(labels: np.ndarray) -> None:
    row = row_of(result(labels), "a.png", "in/a.png")
    back = row_labels(row._asdict())
    assert back.dtype == np.uint8 and (back == labels).all()
    assert list(row.names) == [name for i, name in enumerate(NAMES) if (labels == i + 1).any()]
    assert list(row.areas) == [int((labels == NAMES.index(name) + 1).sum()) for name in row.names]


def test_scores_confidence_and_many_classes(tmp_path: Path) -> None:
    labels, sure = np.array([[1, 1, 0], [3, 0, 255]], np.uint8), np.array([[0.2, 0.4, 1], [0.9, 1, 1]], np.float32)
    wide = np.array([[0, 299, 300]], np.int32)
    many = tuple(f"n{i}" for i in range(300))
    rows = [row_of(result(labels, sure), "a", "in/a"), Row("b", "in/b", "ImageError: no such file"),
            row_of(result(wide, names=many), "c", "in/c")]  # fmt: skip
    write_shard(str(tmp_path), 7, rows, {"names": list(NAMES), "question": "q"})
    assert [path.name for path in tmp_path.iterdir()] == ["shard-000007.parquet"]
    a, b, c = read_shard(shard_place(str(tmp_path), 7))
    assert a["names"] == ["cat", "sofa"] and a["areas"] == [2, 1] and a["scores"] == pytest.approx([0.0, 0.2])
    assert a["confidence"] == pytest.approx([0.3, 0.9], abs=1e-6) and (row_labels(a) == labels).all()
    assert b["error"] == "ImageError: no such file" and b["labels"] is None
    assert row_labels(c).dtype == np.uint16 and (row_labels(c) == wide).all()
    about = read_about(str(tmp_path), 7)
    assert about is not None and about["rows"] == 3 and about["question"] == "q"
    assert read_about(str(tmp_path), 8) is None
    assert list(list_shards(str(tmp_path))) == [str(tmp_path / "shard-000007.parquet")]


def test_a_shard_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(str(tmp_path), 0, [Row("a", "a", "x")], {"question": "old"})

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        write_shard(str(tmp_path), 0, [Row("b", "b", "x")], {"question": "new"})
    about = read_about(str(tmp_path), 0)
    assert about is not None and about["question"] == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change", [{"runs": [1, 1]}, {"width": 0}, {"runs": [-1, 5]}, {"labels": [0]}, {"width": 10**6, "height": 10**6}]
)
def test_runs_that_fill_no_picture(change: dict[str, object]) -> None:
    row = {"name": "a", "width": 2, "height": 2, "labels": [0, 1], "runs": [3, 1]}
    assert row_labels(row).tolist() == [[0, 0], [0, 1]]
    with pytest.raises(InputError, match=r"'a'"):
        row_labels(row | change)


def test_other_parquet_files_are_no_shards(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "shard-000000.parquet")
    (tmp_path / "shard-000001.parquet").write_bytes(b"half")
    for number in (0, 1):
        with pytest.raises(InputError, match=f"shard-00000{number}"):
            about_of(shard_place(str(tmp_path), number))
        assert read_about(str(tmp_path), number) is None
    with pytest.raises(FileNotFoundError, match="no shards"):
        list(list_shards(str(tmp_path / "none")))
    assert shards.FORM == 1
