"""State of earlier runs, models, heads and banks on disk: read whole, or named with what to do about it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from typing import Any

from clipseg_ws.door.documents import read_mapping
from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.limits import check
from clipseg_ws.door.plain import regular


def read_record(path: str | os.PathLike[str], keys: Iterable[str], advice: str) -> dict[str, Any]:
    """A JSON mapping that an earlier run wrote, with these keys.

    Args:
        advice: what to do where it cannot be used: "delete it; the masks are then made again".

    Raises:
        FileNotFoundError. InputError: empty, cut, foreign; says what to do.
    """
    with reading(path, "the record of an earlier run", advice=advice):
        try:
            content = read_mapping(path)
        except InputError as error:
            raise InputError(
                f"empty, cut off or not the record of an earlier run ({error})", file=path, advice=advice
            ) from error
        missing = [key for key in keys if key not in content]
        if missing:
            raise InputError(
                f"not the record of an earlier run: it has no {', '.join(missing)}", file=path, advice=advice
            )
        return content


def checked_archive(path: str | os.PathLike[str]) -> None:
    """Raise InputError for a zip file (``.npz``) whose contents are larger than ``limit("bytes")``, or for no zip."""
    regular(path)
    with reading(path, "a whole zip file"), zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        check("bytes", size, f"{size} bytes unpacked")
