"""Files that nobody ever sees half of, and tables that several writers append to. Standard library only."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import re
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clipseg_ws.door.errors import reading
from clipseg_ws.door.plain import TextWarning as TextWarning
from clipseg_ws.door.plain import read_text as read_text  # the other direction, for those who read and write
from clipseg_ws.together import owner, remove, sweep

try:
    import fcntl
except ImportError:  # Windows: O_APPEND alone, rows of one process stay whole
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".clipseg_ws-"  # how the names of unfinished files begin; what a killed process leaves may be deleted


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a new, empty temporary file beside ``path`` (made with its folder); on success it becomes ``path``.

    On an error the temporary file is removed and ``path`` stays as it was. Names are unique, so several writers of the
    same path do not disturb one another: the last one stays. The temporary name is hidden, keeps a short suffix and
    says who began it (``together.sweep``).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, path.suffix if len(os.fsencode(path.suffix)) < 20 else "")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # honours the umask, unlike mkstemp
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder: yields a new, empty one beside ``path``, which on success takes its place as a whole.

    On an error it is removed and ``path`` stays as it was. A process that is killed while an old folder makes way for
    the new one leaves none, never a mixture.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        _take_place(temporary, path)
    finally:
        remove(temporary)


def _take_place(new: Path, path: Path) -> None:
    """Rename a folder to a path where another may lie, as many writers as there may be."""
    while True:
        old = _beside(path)
        try:
            with suppress(FileNotFoundError):
                os.rename(path, old)
            os.rename(new, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                with suppress(OSError):
                    os.rename(old, path)
                raise
            remove(old)  # another writer was faster: its folder makes way too
        else:
            remove(old)
            return


def _beside(path: Path, suffix: str = "") -> Path:
    return path.with_name(f"{TEMPORARY}{owner()}-{uuid.uuid4().hex}{suffix}")


def remove_unfinished(directory: str | Path) -> int:
    """Delete what writers that are gone left below a folder; how many files and folders."""
    return sweep(directory, TEMPORARY)


def write_arrays(path: str | Path, arrays: Mapping[str, Any], *, packed: bool = False) -> None:
    """``atomic_write`` of an ``.npz`` that is on the disk when this returns; its times are 1980, as zip files need.

    ``numpy.savez`` takes the clock's time and fails where that lies before 1980.
    """
    from numpy.lib import format as npy

    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        with zipfile.ZipFile(file, "w", kind) as archive:
            for name, array in arrays.items():
                with archive.open(zip_entry(f"{name}.npy", kind), "w", force_zip64=True) as entry:
                    npy.write_array(entry, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def zip_entry(name: str, kind: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    """An entry of a zip file with a time that zip files can hold, whatever the clock says."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.external_attr = kind, 0o644 << 16
    return entry


def write_text(path: str | Path, text: str) -> None:
    """``atomic_write`` of UTF-8 text; bytes of file names that are no text become ``\\udcxx``."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def append_csv(path: str | Path, row: Mapping[str, object]) -> None:
    """Append one row, with the header (the row's keys) where the file is new; safe with many threads and processes.

    The row goes out in one write under a file lock. A last line that a killed writer left unfinished is closed first.

    Raises:
        ValueError: the file's header has other columns.
    """
    with _appending(path) as (file, end):
        data = _csv_line(row.values())
        if end == 0:
            data = _csv_line(row) + data
        else:
            _check_header(Path(path), list(row))
        _write_line(file, end, data)


def append_line(path: str | Path, text: str) -> None:
    """Append one line of text (without its line break), as safely."""
    with _appending(path) as (file, end):
        _write_line(file, end, text.encode("utf-8", "backslashreplace") + b"\n")


@contextmanager
def _appending(path: str | Path) -> Iterator[tuple[io.FileIO, int]]:
    """The file, locked, and where it ends."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:  # O_APPEND: whatever is written goes to the end
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        yield file, file.seek(0, os.SEEK_END)


def _write_line(file: io.FileIO, end: int, data: bytes) -> None:
    if end:
        file.seek(end - 1)
        data = data if file.read(1) == b"\n" else b"\n" + data
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def file_name(text: str) -> str:
    """A file's name out of data: letters, digits and ``. _ + -`` as they are, so that it never leaves its folder.

    What has other signs, is empty or longer than 120 letters gets eight hex digits of its SHA-256.

    Example:
        >>> file_name("voc21_zero"), file_name("../../evil")
        ('voc21_zero', '_.._evil-0fbfd372')
    """
    plain = re.sub(r"[^\w.+-]", "_", text).lstrip(".")[:120]
    if plain and plain == text:
        return plain
    return f"{plain[:100]}-{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"


def csv_cell(value: object) -> object:
    """A cell as a spreadsheet shows it: text that it would take for a formula gets an apostrophe in front.

    Example:
        >>> csv_cell("=1+1"), csv_cell("-photo.jpg"), csv_cell("-0.5"), csv_cell(-2)
        ("'=1+1", "'-photo.jpg", '-0.5', -2)
    """
    if not isinstance(value, str) or value[:1] not in ("=", "+", "-", "@", "\t", "\r"):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _csv_line(cells: Iterable[object]) -> bytes:
    text = io.StringIO()
    # with \r\n as its line end the writer quotes both signs, also within a cell
    csv.writer(text, lineterminator="\r\n").writerow([csv_cell(cell) for cell in cells])
    return (text.getvalue().removesuffix("\r\n") + "\n").encode("utf-8", "backslashreplace")


def _check_header(path: Path, columns: list[str]) -> None:
    about = reading(path, "a table that a run wrote", advice="move it away")
    with about, open(path, encoding="utf-8", errors="replace", newline="") as file:
        header = next(csv.reader(file), [])
    if header != columns:
        raise ValueError(f"{str(path)!r} has the columns {', '.join(header)}; the row has {', '.join(columns)}")


class ErrorsCsv:
    """``errors.csv``: one line (image, error, message) a picture that failed; the file appears with the first one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.count = 0  # failures added through this object

    def add(self, image: object, error: BaseException) -> None:
        """Record a failure; line breaks in the message become spaces."""
        self.add_line(image, type(error).__name__, str(error))

    def add_line(self, image: object, kind: str, message: str) -> None:
        """The same for an error of which only name and message are known."""
        append_csv(self.path, {"image": str(image), "error": kind, "message": " ".join(message.split())})
        self.count += 1
