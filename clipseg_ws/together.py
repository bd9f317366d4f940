"""Processes that work in the same folders: who began a file, who holds a lock, what was left by one that is gone.

Standard library only. A temporary name holds machine and process; what lies under such a name is swept by the next run
when that process is gone, or after a day where it was another machine's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from clipseg_ws.door.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no lock is held there
    fcntl = None  # type: ignore[assignment]

DAY = 86_400  # seconds after which another machine's leftovers count as left


@cache
def machine() -> str:
    """This machine, or this container in it, whose processes have numbers of their own, in eight letters."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode("utf-8", "replace")).hexdigest()[:8]


def owner() -> str:
    """Machine and process, as temporary names hold them: "1a2b3c4d-4711"."""
    return f"{machine()}-{os.getpid()}"


def is_alive(process: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, OSError):
        return True
    return True


def is_left(path: Path, prefix: str) -> bool:
    """Whether a file or folder that begins with ``prefix`` was left by a process that is gone.

    Names without an owner, and those of other machines, count as left after a day.
    """
    found = re.match(re.escape(prefix) + r"([0-9a-f]{8})-([0-9]{1,9})-", path.name)
    if found is not None and found[1] == machine():
        return not is_alive(int(found[2]))
    try:
        return time.time() - path.lstat().st_mtime > DAY
    except OSError:
        return False


def sweep(directory: str | Path, prefix: str, *, deep: bool = True) -> int:
    """Delete what processes that are gone left below a folder under names that begin with ``prefix``; how many.

    Links are removed, never followed. ``deep``: in sub-folders too.
    """
    count = 0
    if os.path.isdir(directory):
        for folder, folders, files in os.walk(directory):
            for name in [name for name in (*folders, *files) if name.startswith(prefix)]:
                path = Path(folder, name)
                if is_left(path, prefix):
                    remove(path)
                    count += 1
            folders[:] = [name for name in folders if deep and not name.startswith(prefix)]
    return count


def remove(path: Path) -> None:
    """A file or link, or a folder with what is in it; none is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


class Busy(InputError, BlockingIOError):
    """Another process works on the same file; says who, where and since when."""


@contextmanager
def locked(path: str | Path, *, wait: bool = True, what: str = "") -> Iterator[None]:
    """Hold the lock file ``path``, made if missing; freed when the process ends, also by a kill.

    The file says who holds it: owner, host, process and time. Who has to wait says so once on stderr.

    Args:
        what: for messages, what is locked; "": the path.

    Raises:
        Busy (an InputError and BlockingIOError): ``wait`` is False and another process holds it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = f"{what or str(path)!r} is in use by {_holder(file)}"
                if not wait:
                    raise Busy(f"{text}; wait for it, or use another folder") from None
                print(f"{text}; waiting for it", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file)
        yield


def _sign(file: Any) -> None:
    about = {"owner": _user(), "host": socket.gethostname(), "process": os.getpid(), "time": time.strftime("%F %T")}
    with suppress(OSError):
        file.truncate(0)
        file.write(json.dumps(about).encode() + b"\n")


def _holder(file: Any) -> str:
    try:
        file.seek(0)
        about = json.loads(file.read(2000))
        return f"process {about['process']} of {about['owner']} on {about['host']} since {about['time']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"
