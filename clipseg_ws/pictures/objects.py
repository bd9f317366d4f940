"""Pictures in object storage (S3, Google, Azure, HDFS) through pyarrow's file systems (extra ``ray``). No torch.

Credentials come from where the storage's own tools take them: environment, configuration files, the machine's role.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from clipseg_ws.door.limits import limit
from clipseg_ws.door.plain import regular
from clipseg_ws.door.tables import read_column
from clipseg_ws.files import TEMPORARY
from clipseg_ws.together import owner

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")


def is_object_store(location: str) -> bool:
    """Whether it is a URI such as ``s3://bucket/folder``."""
    return location.partition("://")[0].lower() in SCHEMES and "://" in location


def list_objects(uri: str) -> list[str]:
    """URIs of all files below a folder, sorted, hidden ones left out; the URI itself where it is a file.

    Raises FileNotFoundError where there is nothing, ImportError without pyarrow.
    """
    from pyarrow.fs import FileSelector, FileType

    system, path = _open(uri)
    kind = system.get_file_info(path).type
    if kind == FileType.File:
        return [uri]
    if kind == FileType.NotFound:
        raise FileNotFoundError(f"nothing at {uri!r}")
    files = [info.path for info in system.get_file_info(FileSelector(path, recursive=True)) if info.is_file]
    inside = sorted(str(PurePosixPath(file).relative_to(path)) for file in files)
    return [f"{uri.rstrip('/')}/{name}" for name in inside if not any(part[0] == "." for part in name.split("/"))]


def walk_objects(uri: str) -> Iterator[str]:
    """``list_objects``, one folder at a time: only the names of the folders on the way are held.

    Raises as ``list_objects``.
    """
    from pyarrow.fs import FileSelector, FileType

    system, path = _open(uri)
    kind = system.get_file_info(path).type
    if kind == FileType.NotFound:
        raise FileNotFoundError(f"nothing at {uri!r}")
    if kind == FileType.File:
        yield uri
        return
    for info in sorted(system.get_file_info(FileSelector(path)), key=lambda info: str(info.base_name)):
        if info.base_name[:1] != ".":
            below = f"{uri.rstrip('/')}/{info.base_name}"
            yield from (below,) if info.is_file else walk_objects(below)


def open_object(uri: str) -> Any:
    """The object as an open file of bytes that can be sought. Raises OSError."""
    system, path = _open(uri)
    return system.open_input_file(path)


def write_object(uri: str, data: bytes) -> None:
    """Write an object whole or not at all: under a temporary name first. Raises OSError."""
    system, path = _open(uri)
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/{TEMPORARY}{owner()}-{uuid.uuid4().hex}-{name}"
    system.create_dir(folder, recursive=True)
    with system.open_output_stream(temporary) as stream:
        stream.write(data)
    system.move(temporary, path)


def object_state(uri: str) -> tuple[int, int] | None:
    """(bytes, time of change in nanoseconds) of an object, None where there is none."""
    system, path = _open(uri)
    info = system.get_file_info(path)
    return (int(info.size), int(info.mtime_ns or 0)) if info.is_file else None


def read_object(uri: str, max_bytes: int) -> bytes:
    """The file's bytes. Raises OSError, or ValueError where it is larger than ``max_bytes``."""
    system, path = _open(uri)
    size = system.get_file_info(path).size
    if size is not None and size > max_bytes:
        raise ValueError(f"{size} bytes are more than max_bytes={max_bytes}")
    with system.open_input_stream(path) as stream:
        data: bytes = stream.read()
        return data


def read_paths(path: str) -> list[str]:
    """The paths of a parquet file, local or an object: its column path, image, url or location, else the first of text.

    Raises ValueError for a file without a column of text, ImportError without pyarrow.
    """
    if not is_object_store(path):
        regular(path)
        return read_column(path, path)
    return read_column(BytesIO(read_object(path, limit("bytes"))), path)


def _open(uri: str) -> tuple[Any, str]:
    """(file system, path in it)."""
    try:
        from pyarrow.fs import FileSystem
    except ImportError as error:
        raise ImportError("object storage needs pyarrow: pip install 'clipseg_ws[ray]'") from error

    system, path = FileSystem.from_uri(uri)
    return system, str(path)
