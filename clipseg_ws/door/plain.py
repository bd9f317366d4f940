"""Files as bytes and as text: what is no regular file, too large or in no known encoding is refused."""

from __future__ import annotations

import os
import re
import stat
import warnings
from pathlib import Path
from typing import BinaryIO

from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.limits import check

_KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
          (stat.S_ISBLK, "a device"), (stat.S_ISDIR, "a folder"))  # fmt: skip


class TextWarning(UserWarning):
    """A text file in an encoding that had to be guessed."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a user writes it, "~" and "~name" replaced. Raises InputError for a user that does not exist."""
    try:
        text = os.fspath(path)
        if "\0" in text:
            raise InputError("a path holds no zero byte", file=path)
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError("there is no such user", file=path, advice="write the whole path") from error


def regular(path: str | os.PathLike[str]) -> int:
    """The size in bytes of a regular file. Raises FileNotFoundError, InputError for a pipe, a socket or a folder.

    Opening a pipe would wait for somebody who writes into it, for ever.
    """
    try:
        there = os.stat(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=path) from error
    if not stat.S_ISREG(there.st_mode):
        what = next((name for is_kind, name in _KINDS if is_kind(there.st_mode)), "no file")
        raise InputError(f"{what}, no regular file", file=path, advice="give a file")
    return there.st_size


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file is there; False for a name that no file can have, too long or with a zero byte."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def open_data(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, opened to read bytes. Raises FileNotFoundError, InputError."""
    regular(path)
    with reading(path):
        return open(path, "rb")


def read_data(path: str | os.PathLike[str], kind: str = "bytes", most: int | None = None) -> bytes:
    """The bytes of a file of at most ``limit(kind)`` (or ``most``) bytes. Raises FileNotFoundError, InputError."""
    size = regular(path)
    with reading(path):
        check(kind, size, f"{size} bytes", most)
        with open(path, "rb") as file:
            return file.read()


def read_text(path: str | os.PathLike[str], kind: str = "bytes") -> str:
    """A text file as other programs write it: UTF-8 or UTF-16, with or without byte order mark; line ends as they are.

    What looks like Latin text of Windows (code page 1252) is read as that, with a TextWarning.

    Raises InputError for another encoding or more than ``limit(kind)`` bytes, FileNotFoundError.
    """
    data = read_data(path, kind)
    try:
        return data.decode(encoding_of(data))
    except UnicodeDecodeError as error:
        if encoding_of(data) == "utf-8-sig" and (text := _windows_latin(data)) is not None:
            said = f"{str(path)!r} is read as Windows text (code page 1252), not UTF-8"
            warnings.warn(said, TextWarning, stacklevel=2)
            return text
        raise InputError(f"not a UTF-8 or UTF-16 text: {error}", file=path, advice="save it as UTF-8") from error


def _windows_latin(data: bytes) -> str | None:
    """Text of code page 1252; None where it must be something else: letters beyond ASCII stand alone or in pairs."""
    if re.search(rb"[\x80-\xff]{3}|[\x00-\x08\x0e-\x1f]", data):
        return None
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return text if all(c.isalpha() for c in text if "\xc0" <= c <= "\xff" and c not in "\xd7\xf7") else None


def encoding_of(data: bytes) -> str:
    """The encoding of a text by its first bytes."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if len(data) > 3 and not data[1] and not data[3]:
        return "utf-16-le"  # no mark, but every second byte of Latin text is zero
    if len(data) > 3 and not data[0] and not data[2]:
        return "utf-16-be"
    return "utf-8-sig"
