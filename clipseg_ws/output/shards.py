"""Results of many pictures in one Parquet file: a row a picture, label maps as run lengths, exact.

``shard-000042.parquet`` has the columns

* ``name``: of the picture's files when the shard is unpacked; ``path``: where the picture came from; ``width``,
  ``height``;
* ``labels``, ``runs``: the label map, row by row from the top left, as values and how often each comes in turn (0 is
  background, i + 1 the i-th of all names, 255 ignored);
* ``names``, ``areas``, ``scores``, ``confidence``: the classes that occur, their pixels, score, mean confidence there;
* ``error``: why there is no result, null where there is one.

The file's own metadata, key ``clipseg_ws``, is JSON: the question with its digest, all names, what the shard was made
of. Needs pyarrow (extra ``shards``), imported on call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.limits import check
from clipseg_ws.door.plain import open_data
from clipseg_ws.files import atomic_write
from clipseg_ws.pictures.objects import is_object_store, object_state, open_object, walk_objects, write_object
from clipseg_ws.structures import Result

KEY = b"clipseg_ws"
FORM = 1  # of the columns; raise it where they change


class Row(NamedTuple):
    """One picture of a shard, see the module."""

    name: str
    path: str
    error: str | None = None
    width: int = 0
    height: int = 0
    labels: npt.NDArray[np.uint16] | None = None
    runs: npt.NDArray[np.uint32] | None = None
    names: Sequence[str] = ()
    areas: Sequence[int] = ()
    scores: Sequence[float] = ()
    confidence: Sequence[float] = ()


def row_of(result: Result, name: str, path: str) -> Row:
    """A result as a row; ``row_labels`` gives its labels back.

    Example:
        >>> row = row_of(segment("a.jpg", "cat"), "a.jpg", "photos/a.jpg")
        >>> (row_labels(row._asdict()) == result.labels).all()
    """
    flat = np.asarray(result.labels).ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    runs = np.diff(np.concatenate([starts, [flat.size]])).astype(np.uint32)
    values = flat[starts].astype(np.uint16)
    areas = np.bincount(values, weights=runs, minlength=len(result.names) + 1)
    sure = np.bincount(flat, weights=np.asarray(result.confidence, np.float64).ravel(), minlength=len(areas))
    here = [i for i in range(len(result.names)) if areas[i + 1]]
    height, width = result.labels.shape
    return Row(
        name, path, None, width, height, values, runs, [result.names[i] for i in here],
        [int(areas[i + 1]) for i in here], [float(result.scores.get(result.names[i], 0.0)) for i in here],
        [float(sure[i + 1] / areas[i + 1]) for i in here],
    )  # fmt: skip


def row_labels(row: Mapping[str, Any]) -> npt.NDArray[Any]:
    """[H, W] labels of a row, uint8 where they fit, else uint16.

    Raises InputError where its runs do not fill the picture.
    """
    runs, values = np.asarray(row["runs"], np.int64), np.asarray(row["labels"], np.uint16)
    size = int(row["width"]) * int(row["height"])
    check("pixels", size, f"{row['width']} x {row['height']} pixels of {row['name']!r}")
    if size < 1 or len(runs) != len(values) or int(runs.sum()) != size or (runs < 1).any():
        raise InputError(f"the runs of {row['name']!r} do not fill {row['width']} x {row['height']} pixels")
    flat = np.repeat(values if values.max() > 255 else values.astype(np.uint8), runs)
    return flat.reshape(int(row["height"]), int(row["width"]))


def shard_place(place: str, number: int) -> str:
    """Path or URI of a shard."""
    return f"{place.rstrip('/')}/shard-{number:06d}.parquet"


def write_shard(place: str, number: int, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write a shard whole or not at all, to disk or object storage. Raises OSError; ImportError without pyarrow."""
    pyarrow = needs_pyarrow()
    from pyarrow import parquet

    columns = {key: [getattr(row, key) for row in rows] for key in Row._fields}
    table = pyarrow.table(columns, schema=_schema(pyarrow)).replace_schema_metadata(
        {KEY: json.dumps({"form": FORM, **about}, default=str).encode()}
    )
    data = BytesIO()
    parquet.write_table(table, data, compression="zstd", row_group_size=1000)
    where = shard_place(place, number)
    if is_object_store(where):
        write_object(where, data.getvalue())
    else:
        with atomic_write(where) as temporary:
            temporary.write_bytes(data.getvalue())


def read_about(place: str, number: int) -> dict[str, Any] | None:
    """What a shard says of itself, from its footer, with "rows"; None where it is not there or is no whole shard."""
    where = shard_place(place, number)
    there = object_state(where) is not None if is_object_store(where) else Path(where).is_file()
    try:
        return about_of(where) if there else None
    except InputError:
        return None


def about_of(where: str) -> dict[str, Any]:
    """The same of a file. Raises InputError for what is no shard, ImportError without pyarrow."""
    needs_pyarrow()
    from pyarrow import parquet

    with reading(where, "a shard of results"), _opened(where) as file:
        footer = parquet.ParquetFile(file).metadata
        about = json.loads((footer.metadata or {}).get(KEY, b"null"))
        if not isinstance(about, dict) or about.get("form") != FORM:
            raise InputError("it is no shard that clipseg-ws wrote, or one of another version")
        return about | {"rows": footer.num_rows}


def read_shard(where: str) -> Iterator[dict[str, Any]]:
    """The rows of a shard, some hundred in memory at a time. Raises as ``about_of``."""
    about_of(where)
    from pyarrow import parquet

    with reading(where, "a shard of results"), _opened(where) as file:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=256):
            yield from batch.to_pylist()


def list_shards(place: str) -> Iterator[str]:
    """The shards in a folder, in order, or the one file. Raises FileNotFoundError where there are none."""
    empty = True
    if is_object_store(place):
        found: Iterator[str] = walk_objects(place)
    else:
        path = Path(place)
        found = iter([place] if path.is_file() else map(str, sorted(path.glob("shard-*.parquet"))))
    for where in found:
        if where.endswith(".parquet"):
            empty = False
            yield where
    if empty:
        raise FileNotFoundError(f"no shards at {place!r}: looked for shard-000000.parquet and so on")


def needs_pyarrow() -> Any:
    """pyarrow. Raises ImportError with the pip line where it is not here."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("shards need pyarrow: pip install 'clipseg_ws[shards]'") from error
    return pyarrow


def _schema(pyarrow: Any) -> Any:
    text, many = pyarrow.string(), pyarrow.list_
    kinds = {
        "name": text, "path": text, "error": text, "width": pyarrow.int32(), "height": pyarrow.int32(),
        "labels": many(pyarrow.uint16()), "runs": many(pyarrow.uint32()), "names": many(text),
        "areas": many(pyarrow.int64()), "scores": many(pyarrow.float32()), "confidence": many(pyarrow.float32()),
    }  # fmt: skip
    return pyarrow.schema(list(kinds.items()))


def _opened(where: str) -> Any:
    return open_object(where) if is_object_store(where) else open_data(where)
