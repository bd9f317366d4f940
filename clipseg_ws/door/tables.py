"""Tables from outside: CSV rows and one column of a Parquet file, counted before they are made."""

from __future__ import annotations

import csv
import gzip
import io
import os
from typing import Any, BinaryIO

from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.limits import check, limit
from clipseg_ws.door.plain import read_data

PATH_COLUMNS = ("path", "image", "url", "location")


def csv_rows(text: str, sign: str = ",", *, strict: bool = True) -> list[tuple[int, list[str]]]:
    """(line number, cells) of the rows that are not empty. Raises InputError for what is no CSV, or too many rows."""
    with reading("", "a CSV table"):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=strict)
        rows = []
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((reader.line_num, row))
                check("rows", len(rows), f"{len(rows)} rows or more")
        return rows


def read_packed_text(path: str | os.PathLike[str]) -> str:
    """A UTF-8 text, plain or packed by gzip; no more than ``limit("unpacked_bytes")`` are unpacked.

    Raises as ``read_text``.
    """
    data = read_data(path)
    with reading(path, "a text in UTF-8, plain or packed by gzip"):
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(limit("unpacked_bytes") + 1)
            check("unpacked_bytes", len(data), f"{len(data)} bytes or more")
        return data.decode("utf-8-sig")


def read_column(source: str | os.PathLike[str] | BinaryIO, name: object) -> list[str]:
    """The texts of a Parquet file's column path, image, url or location, else of its first column of text.

    Raises InputError for what is no Parquet file, more rows than ``limit("rows")`` or no column of text; ImportError
    without pyarrow.
    """
    pyarrow: Any = _pyarrow()
    from pyarrow import parquet

    with reading(name, "a Parquet file"):
        table = parquet.ParquetFile(source)
        check("rows", table.metadata.num_rows, f"{table.metadata.num_rows} rows")
        kinds = (pyarrow.types.is_string, pyarrow.types.is_large_string)
        text = [f.name for f in table.schema_arrow if any(is_text(f.type) for is_text in kinds)]
        if not text:
            raise InputError("it has no column of text; a column 'path' with a path or URL a row is needed")
        column = next((known for known in PATH_COLUMNS if known in text), text[0])
        found: list[str] = []
        for batch in table.iter_batches(batch_size=65_536, columns=[column]):
            found += [value for value in batch.column(0).to_pylist() if value]
        return found


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("object storage and parquet lists need pyarrow: pip install 'clipseg_ws[ray]'") from error
    return pyarrow
