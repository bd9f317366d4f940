"""Pictures inside tars (WebDataset) and Parquet files, read in turn from disk or object storage. No torch."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.limits import check
from clipseg_ws.door.plain import open_data
from clipseg_ws.pictures.objects import is_object_store, open_object
from clipseg_ws.pictures.suffixes import IMAGE_SUFFIXES

BYTES = ("image", "bytes", "jpg", "jpeg", "png", "webp", "picture", "content")  # columns that may hold pictures
PLACES = ("path", "image", "url", "uri", "location")  # columns that may hold paths and URLs
NAMES = ("path", "name", "file_name", "filename", "key", "__key__", "id", "url")  # columns that may name a picture
Row = tuple[str, str | None, bytes | None]  # name, location of a picture elsewhere, bytes


def read_tar(place: str) -> Iterator[Row]:
    """The pictures of a tar, in its order; other members are passed over, no link is followed.

    Raises InputError for what is no tar, or for a member larger than ``limit("download_bytes")``; OSError.
    """
    with reading(place, "a tar file"), _opened(place) as file, tarfile.open(fileobj=file, mode="r|") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                check("download_bytes", member.size, f"{member.size} bytes of {member.name!r}")
                data = archive.extractfile(member)
                yield member.name, None, b"" if data is None else data.read()


def group_rows(place: str, size: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) row groups that hold ``size`` rows or a little more together.

    Raises InputError for what is no Parquet file, ImportError without pyarrow.
    """
    with _table(place) as table:
        rows = [table.metadata.row_group(index).num_rows for index in range(table.metadata.num_row_groups)]
    first, held = 0, 0
    for index, number in enumerate(rows):
        held += number
        if held >= size or index == len(rows) - 1:
            yield first, index + 1
            first, held = index + 1, 0


def column_of(place: str) -> tuple[str, bool, str]:
    """(column of the pictures, whether it holds bytes, column of their names or "") of a Parquet file.

    Bytes may lie in a structure {"bytes", "path"}, as the ``datasets`` library stores pictures.

    Raises InputError for a file without such columns or what is no Parquet file, ImportError without pyarrow.
    """
    with _table(place) as table:
        kinds = {field.name: field.type for field in table.schema_arrow}
    types = _pyarrow().types
    packed = [name for name, kind in kinds.items() if _holds_bytes(types, kind)]
    texts = [name for name, kind in kinds.items() if types.is_string(kind) or types.is_large_string(kind)]
    named = next((name for name in NAMES if name in texts), "")
    if packed:
        return next((name for name in BYTES if name in packed), packed[0]), True, named
    if not texts:
        raise InputError(
            "it has neither a column of bytes nor one of text; 'image' with the bytes of picture files is needed, or "
            "'path' with a path or URL a row", file=place,
        )  # fmt: skip
    return next((name for name in PLACES if name in texts), texts[0]), False, named


def read_rows(place: str, groups: tuple[int, int]) -> Iterator[Row]:
    """The pictures of some row groups of a Parquet file; a row without one is an empty picture, which fails later.

    Raises as ``column_of``.
    """
    column, packed, named = column_of(place)
    with _table(place) as table:
        before = sum(table.metadata.row_group(index).num_rows for index in range(groups[0]))
        columns = [column] if named in ("", column) else [column, named]
        batches = table.iter_batches(batch_size=64, row_groups=list(range(*groups)), columns=columns)
        for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), start=before):
            value, name = row[column], row.get(named) if named else None
            if packed and isinstance(value, dict):
                name, value = name or value.get("path"), value.get("bytes")
            if packed:
                yield str(name or f"{number:09d}"), None, value or b""
            else:
                # the row's number first: two URLs may end alike
                yield f"{number:09d}-{PurePosixPath(str(value).partition('?')[0]).name}", str(value or ""), None


def _holds_bytes(types: Any, kind: Any) -> bool:
    if types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _opened(place: str) -> Any:
    return open_object(place) if is_object_store(place) else open_data(place)


class _Table:
    """An open Parquet file."""

    def __init__(self, place: str) -> None:
        from pyarrow import parquet

        self.place, self.file = place, _opened(place)
        with reading(place, "a Parquet file"):
            self.table = parquet.ParquetFile(self.file)

    def __enter__(self) -> Any:
        return self.table

    def __exit__(self, *error: object) -> None:
        self.file.close()


def _table(place: str) -> _Table:
    _pyarrow()
    return _Table(place)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install 'clipseg_ws[shards]'") from error
    return pyarrow
