"""Runs into shards: resume by shard, other questions, failures as rows, and back into label PNGs."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.shards import about_of, read_shard, row_labels, shard_place
from clipseg_ws.pictures.units import Unit, list_units
from clipseg_ws.run import sharded
from clipseg_ws.run.sharded import ShardCounts, run_sharded
from clipseg_ws.run.unpacking import unpack_shards

pytest.importorskip("pyarrow", reason="the extra 'shards' is not installed")


@pytest.fixture(scope="module")
def segment() -> Segmenter:
    return Segmenter("nano", device="cpu", dtype="float32", refine="none", short_side=32, batch_size=4)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Nine pictures, of which one is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(9):
        values = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    (folder / "4.png").write_bytes(b"no picture")
    return folder


def test_rows_are_what_the_call_gives(segment: Segmenter, pictures: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    counts = run_sharded(segment, list_units(str(pictures), 4), out, segment.ask("house; tree"))
    assert (counts.shards, counts.done, counts.failed, counts.lost) == (3, 8, 1, 0)
    rows = [row for number in range(3) for row in read_shard(shard_place(out, number))]
    assert [row["name"] for row in rows] == [f"{number}.png" for number in range(9)]
    assert rows[4]["error"].startswith("ImageError: ") and rows[4]["labels"] is None
    for row in (rows[0], rows[8]):
        alone = segment(row["path"], "house; tree")
        assert (row_labels(row) == alone.labels).mean() > 0.99  # batches differ in the last digits
        assert row["error"] is None and Path(row["path"]).parent == pictures
    about = about_of(shard_place(out, 1))
    assert about["names"] == ["house", "tree"] and about["failed"] == 1 and about["content"]["classes"]
    assert unpack_shards(out, tmp_path / "png") == (8, 1)
    assert (read_label_png(tmp_path / "png" / "8.png.png") == row_labels(rows[8])).all()
    assert "4.png,ImageError" in (tmp_path / "png" / "errors.csv").read_text()
    assert unpack_shards(out, tmp_path / "few", limit=2) == (2, 0)


def test_a_rerun_does_what_is_missing(
    segment: Segmenter, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, question = str(tmp_path / "out"), segment.ask("house; tree")
    inner, asked = sharded.write_shard, []

    def killed(place: str, number: int, *more: object) -> None:
        if number == 1:
            raise KeyboardInterrupt
        inner(place, number, *more)

    with monkeypatch.context() as patch:
        patch.setattr(sharded, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            run_sharded(segment, list_units(str(pictures), 4), out, question)
    assert sorted(path.name for path in Path(out).iterdir()) == ["shard-000000.parquet"]
    monkeypatch.setattr(sharded, "write_shard", lambda *a: asked.append(a[1]) or inner(*a))
    counts = run_sharded(segment, list_units(str(pictures), 4), out, question)
    assert asked == [1, 2] and (counts.kept, counts.shards) == (1, 2)
    (pictures / "9.png").write_bytes((pictures / "8.png").read_bytes())
    counts = run_sharded(segment, list_units(str(pictures), 4), out, question)
    assert asked == [1, 2, 2] and counts.again == {"pictures changed": 1} and counts.kept == 2


def test_another_question_is_refused(segment: Segmenter, pictures: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    run_sharded(segment, list_units(str(pictures), 9), out, segment.ask("house; tree"))
    with pytest.raises(ValueError, match=r"another question \(other classes, other synonyms\).*--overwrite"):
        run_sharded(segment, list_units(str(pictures), 9), out, segment.ask("house"))
    other = segment.variant(alpha=3.0)
    with pytest.raises(ValueError, match="other alpha"):
        run_sharded(other, list_units(str(pictures), 9), out, other.ask("house; tree"))
    counts = run_sharded(segment, list_units(str(pictures), 9), out, segment.ask("house"), overwrite=True)
    assert counts.shards == 1 and about_of(shard_place(out, 0))["names"] == ["house"]


def test_a_unit_that_cannot_be_read_stops_no_other(segment: Segmenter, pictures: Path, tmp_path: Path) -> None:
    (pictures / "a.tar").write_bytes(b"no tar" * 500)
    counts = run_sharded(segment, list_units(str(pictures), 9), str(tmp_path / "out"), segment.ask("house"))
    assert counts.lost == 1 and counts.shards == 1 and any("a.tar" in reason for reason in counts.reasons)


def test_nothing_of_a_unit_is_kept(monkeypatch: pytest.MonkeyPatch, segment: Segmenter, tmp_path: Path) -> None:
    alive: list[weakref.ref[Unit]] = []
    held: list[int] = []

    def units() -> object:
        for number in range(300):
            unit = Unit(number, files=((f"{number}.png", f"{number}.png"),))
            alive.append(weakref.ref(unit))
            yield unit
            del unit

    def counted(job: object, unit: Unit) -> ShardCounts:
        gc.collect() if unit.number % 100 == 0 else None
        held.append(sum(ref() is not None for ref in alive))
        return ShardCounts(shards=1, done=1)

    monkeypatch.setattr(sharded, "do_unit", counted)
    total = run_sharded(segment, units(), str(tmp_path), segment.ask("house"))  # type: ignore[arg-type]
    assert total.done == 300 and max(held) <= 3 and len(total.reasons) <= 5


def test_in_a_bucket(segment: Segmenter, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    from clipseg_ws.pictures import objects

    system = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    monkeypatch.setattr(objects, "_open", lambda uri: (system, uri.removeprefix("s3://").rstrip("/")))
    question = segment.ask("house")
    assert run_sharded(segment, list_units("s3://in", 5), "s3://out/deep", question).shards == 2
    assert run_sharded(segment, list_units("s3://in", 5), "s3://out/deep", question).kept == 2
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == [
        "shard-000000.parquet", "shard-000001.parquet"
    ]  # fmt: skip
    assert unpack_shards("s3://out/deep", tmp_path / "png") == (8, 1)


def test_what_would_be_written_elsewhere_is_refused(tmp_path: Path) -> None:
    from clipseg_ws.output.shards import Row, write_shard

    one = np.array([1], np.uint16)
    write_shard(str(tmp_path), 0, [Row("../evil", "x", None, 1, 1, one, one.astype(np.uint32))], {"names": ["a"]})
    with pytest.raises(ValueError, match="below the output folder"):
        unpack_shards(str(tmp_path), tmp_path / "png")


@pytest.mark.slow
def test_ray_writes_the_same(segment: Segmenter, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    question = segment.ask("house; tree")
    for engine in ("local", "ray"):
        counts = run_sharded(
            segment, list_units(str(pictures), 4), str(tmp_path / engine), question, engine=engine
        )
        assert (counts.shards, counts.done, counts.failed) == (3, 8, 1)
    for number in range(3):
        mine, theirs = (list(read_shard(shard_place(str(tmp_path / engine), number))) for engine in ("local", "ray"))
        assert [row["runs"] for row in mine] == [row["runs"] for row in theirs]
