"""Nobody but the door opens what somebody else made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# what only the door may call, and the few that read what the product itself holds or has checked before
DOOR_ONLY = {
    "Image.open": (), "ElementTree.fromstring": (), "ElementTree.parse": (), "yaml.load": (),
    "yaml.safe_load": ("text/lists.py",),  # the package's own prompts
    "np.load": ("run/state.py", "regions/store.py"),  # after checked_archive
    "gzip.decompress": (), "gzip.open": (), "pickle.load": (), "pd.read_json": (),
    "pickle.loads": ("run/ray_pool.py",),  # between the run's own processes
    "pd.read_pickle": (), "np.loadtxt": (), "np.genfromtxt": (), "np.fromfile": (), "parquet.read_table": (),
    "json.load": (),
}  # fmt: skip


def calls(path: Path) -> Iterator[str]:
    """ "module.function" of every call of that form."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("folder", ["clipseg_ws", "eval"])
def test_readers_go_through_the_door(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT / folder).as_posix()
        if name.startswith(("door/", "embedded/")):  # embedded: how models were trained, no reader of users' files
            continue
        found = {call for call in calls(path) if call in DOOR_ONLY and name not in DOOR_ONLY[call]}
        assert not found, f"{folder}/{name} calls {', '.join(sorted(found))}; use clipseg_ws.door"


def test_weights_are_loaded_without_their_code():
    for path in sorted(ROOT.glob("clipseg_ws/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("weights_only") == "True", f"{path.name} line {node.lineno}"
