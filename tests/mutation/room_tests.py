"""Run the tests of the room whose file was changed (the test command of cosmic-ray.toml); exit status 0: none noticed.

The changed file is what ``git diff`` names, so that this runs in a clean clone only. Test files that import the
changed module come first, the rest of the room after them, and the first failure ends the run. Of ``eval/`` only files
that name its metrics run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def changed_file() -> str:
    """The one changed file under version control, "clipseg_ws/refine/pamr.py".

    Raises:
        SystemExit: none or several are changed (status 3: a mistake of the run, no fault that was noticed).
    """
    shown = subprocess.run(["git", "diff", "--name-only"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = shown.stdout.split()
    if len(files) != 1:
        print(f"{files} differ from the commit; one changed file is needed: run this in a clean clone")
        raise SystemExit(3)
    return files[0]


def tests_of(file: str) -> list[Path]:
    """Test files of the room of ``file``, those that import its module first."""
    parts = file.removesuffix(".py").removesuffix("/__init__").split("/")
    if parts[0] == "eval":
        room, imports = ROOT / "tests" / "eval", re.compile(r"clipseg_ws\.eval\.metrics")
        return [path for path in sorted(room.glob("test_*.py")) if imports.search(path.read_text())]
    imports = re.compile(rf"\b{re.escape('.'.join(parts))}\b")
    files = sorted((ROOT / "tests" / parts[1]).glob("test_*.py"))
    return sorted(files, key=lambda path: not imports.search(path.read_text()))


if __name__ == "__main__":
    import pytest

    named = [str(path) for path in tests_of(changed_file())]
    sys.exit(pytest.main(["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *named]))
