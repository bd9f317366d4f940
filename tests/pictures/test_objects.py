"""Object storage and parquet lists, with a local file system in the storage's place."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.pictures import objects as object_store
from clipseg_ws.pictures.reading import ImageError, read_bytes, read_image
from clipseg_ws.pictures.sources import list_sources

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'ray' is not installed")
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """s3://bucket is a folder with a.png, sub/b.v2.png, a hidden picture and a text."""
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    for name in ("bucket/a.png", "bucket/sub/b.v2.png", "bucket/.cache/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PICTURE).save(tmp_path / name)
    (tmp_path / "bucket" / "notes.txt").write_text("no picture")
    system = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    monkeypatch.setattr(object_store, "_open", lambda uri: (system, uri.removeprefix("s3://").rstrip("/")))
    return tmp_path / "bucket"


def test_a_folder_in_a_bucket(bucket):
    sources = list_sources("s3://bucket/")
    assert [(str(s), str(s.relative)) for s in sources] == [
        ("s3://bucket/a.png", "a"), ("s3://bucket/sub/b.v2.png", "sub/b.v2")
    ]  # fmt: skip
    assert np.array_equal(np.asarray(read_image(sources[1])), PICTURE)
    assert [str(s.relative) for s in list_sources("s3://bucket/a.png")] == ["a"]


def test_what_is_not_there(bucket):
    with pytest.raises(FileNotFoundError, match="nothing at 's3://bucket/none'"):
        list_sources("s3://bucket/none")
    with pytest.raises(ValueError, match="no pictures at"):
        list_sources("s3://bucket/notes.txt")
    with pytest.raises(ImageError, match=r"more than max_bytes=10"):
        read_bytes("s3://bucket/a.png", max_bytes=10)
    with pytest.raises(ImageError, match=r"s3://bucket/none\.png"):
        read_image("s3://bucket/none.png")


@pytest.mark.parametrize("columns", [{"label": ["x", "y"], "path": "paths"}, {"n": [1, 2], "file": "paths"}])
def test_a_parquet_list(bucket, tmp_path, columns):
    from pyarrow import parquet

    paths = ["bucket/a.png", "s3://bucket/sub/b.v2.png"]
    table = pyarrow.table({name: paths if values == "paths" else values for name, values in columns.items()})
    parquet.write_table(table, tmp_path / "list.parquet")
    sources = list_sources(tmp_path / "list.parquet")
    assert [str(s.relative) for s in sources] == ["bucket/a", "b.v2"]
    assert all(np.array_equal(np.asarray(read_image(s)), PICTURE) for s in sources)


def test_a_parquet_file_without_text(tmp_path):
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"n": [1]}), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match="no column of text"):
        list_sources(tmp_path / "list.parquet")
