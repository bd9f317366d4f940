"""Units of work: folders, lists, tars and Parquet files, on disk and in a bucket, in a fixed order and streamed."""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.door.errors import InputError
from clipseg_ws.pictures import objects as object_store
from clipseg_ws.pictures import units as units_module
from clipseg_ws.pictures.units import Unit, list_units

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'shards' is not installed")


def picture(number: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), number, np.uint8)).save(data, "PNG")
    return data.getvalue()


def fill(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(number))
    return folder


def tar(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_png", ".png").replace("_json", ".json"))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def table(path: Path, rows: int = 5, groups: int = 2, **columns: list[object]) -> Path:
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, row_group_size=groups)
    return path


def names(units: list[Unit]) -> list[list[str]]:
    return [[str(source.relative) for source, _ in unit.pictures()] for unit in units]


def test_a_folder_in_units_of_so_many(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.png", "a.png", "b/1.png", "a.jpg", ".hidden/c.png", "b/10.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    found = list(list_units(str(tmp_path), 2))
    assert names(found) == [["a.jpg", "a.png"], ["b/1.png", "b/10.png"], ["b/2.png"]]
    assert [unit.number for unit in found] == [0, 1, 2]
    assert found == list(list_units(str(tmp_path), 2)) and len({unit.identity() for unit in found}) == 3
    (tmp_path / "b" / "round").unlink()
    assert names(list(list_units([str(tmp_path / "b"), str(tmp_path / "a.png")], 9))) == [
        ["1/1.png", "1/10.png", "1/2.png"], ["2/a.png"]
    ]  # fmt: skip


def test_nothing_is_listed_before_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, *(f"{folder}/{number}.png" for folder in "abc" for number in range(4)))
    seen: list[str] = []
    inner = units_module.own_files
    monkeypatch.setattr(units_module, "own_files", lambda folder, n: seen.append(Path(folder).name) or inner(folder, n))
    assert len(list(islice(list_units(str(tmp_path), 4), 1))) == 1
    assert seen == [tmp_path.name, "a"]


def test_a_tar_is_a_unit(tmp_path: Path) -> None:
    made = tar(tmp_path / "x.tar", a_png=picture(1), a_json=b"{}", up__b_png=picture(2), b_png=picture(3))
    with tarfile.open(made, "a") as archive:
        for name, size in (("../../a.png", 3), ("a.png", 2)):
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(b"xyz"[:size]))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (unit,) = list_units(str(made))
    rows = list(unit.pictures())
    assert [str(source.relative) for source, _ in rows] == ["a.png", "up/b.png", "b.png", "a-2.png", "a-3.png"]
    assert rows[1][1] == picture(2) and rows[0][0].location == f"{made}/a.png"
    (inside,) = list_units(str(tmp_path))
    assert names([inside])[0][0] == "x/a.png" and inside.identity() != unit.identity()


def test_parquet_with_bytes_by_row_groups(tmp_path: Path) -> None:
    data = [{"bytes": picture(n), "path": f"p{n}.png"} for n in range(4)] + [{"bytes": None, "path": None}]
    made = table(tmp_path / "x.parquet", image=data, label=list(range(5)))
    found = list(list_units(str(made), 3))
    assert [unit.groups for unit in found] == [(0, 2), (2, 3)]
    assert names(found) == [["p0.png", "p1.png", "p2.png", "p3.png"], ["000000004"]]
    assert [data for _, data in found[0].pictures()][3] == picture(3) and next(found[1].pictures())[1] == b""
    plain = table(tmp_path / "y.parquet", groups=9, jpg=[picture(n) for n in range(2)], key=["one", "two"])
    assert names(list(list_units(str(plain)))) == [["one", "two"]]


def test_parquet_with_places(tmp_path: Path) -> None:
    fill(tmp_path, "in/a.png", "in/b.png")
    places = [str(tmp_path / "in" / "a.png"), "https://example.org/a.png?size=2", str(tmp_path / "in" / "b.png")]
    found = list(list_units(str(table(tmp_path / "list.parquet", url=places)), 2))
    assert [[str(s) for s, _ in unit.pictures()] for unit in found] == [places[:2], places[2:]]
    assert names(found)[0] == ["list/000000000-a.png", "list/000000001-a.png"]


@pytest.mark.parametrize("name, data", [("x.tar", b"no tar at all" * 99), ("x.parquet", b"PAR1 no table")])
def test_what_is_damaged_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        for unit in list_units(str(tmp_path / name)):
            list(unit.pictures())


def test_places_without_pictures_and_sizes_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pictures at"):
        list(list_units(str(tmp_path)))
    with pytest.raises(ValueError, match="at least 1"):
        list(list_units(str(tmp_path), 0))
    with pytest.raises(FileNotFoundError):
        list(list_units(str(tmp_path / "none.png")))
    with pytest.raises(InputError, match="'image' with the bytes"):
        list(list_units(str(table(tmp_path / "x.parquet", n=[1, 2]))))


def test_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    fill(tmp_path / "bucket", "b/2.png", "a.png", ".cache/c.png")
    tar(tmp_path / "bucket" / "b" / "x.tar", a_png=picture(7))
    system = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    monkeypatch.setattr(object_store, "_open", lambda uri: (system, uri.removeprefix("s3://").rstrip("/")))
    found = list(list_units("s3://bucket/", 5))
    assert sorted(name for unit in names(found) for name in unit) == ["a.png", "b/2.png", "b/x/a.png"]
    packed = next(unit for unit in found if unit.place)
    assert packed.place == "s3://bucket/b/x.tar" and next(packed.pictures())[1] == picture(7)
    before = packed.identity()
    tar(tmp_path / "bucket" / "b" / "x.tar", a_png=picture(7), b_png=picture(8))
    assert packed.identity() != before
