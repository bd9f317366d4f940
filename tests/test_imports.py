"""The order of the rooms, read from the source, and the lightness of the import and of ``--help``."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# the rooms from the ground up; rooms of one floor know nothing of one another. "" is the package itself
FLOORS = (
    ("", "structures", "door", "together", "files", "values", "registry", "stored", "prompts"),
    ("pictures", "text"),
    ("weak", "output", "backbones"),
    ("activations",),
    ("regions",),
    ("refine",),
    ("fewshot", "heads"),
    ("config",),
    ("stages",),
    ("segmenter",),
    ("run", "embedded", "adapters"),
    ("eval", "web"),
    ("service",),
    ("cli",),
    ("__main__",),
)
EVAL_FLOORS = (  # the same inside eval
    ("metrics", "guard", "tables"),
    ("datasets", "predictors", "protocols"),
    ("report",),
    ("run",),
    ("bench", "experiments"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
GROUND = FLOORS[0]  # rooms that know one another
DOORS = {("", room) for room in ("structures", "segmenter", "config", "backbones", "output")}  # lazy public names


def modules() -> list[tuple[Path, str]]:
    """(file, dotted name below clipseg_ws) of every module of the product."""
    found = [(p, p.relative_to(ROOT / "clipseg_ws")) for p in sorted((ROOT / "clipseg_ws").rglob("*.py"))]
    found += [(p, p.relative_to(ROOT)) for folder in ("eval", "prompts") for p in sorted((ROOT / folder).rglob("*.py"))]
    return [(p, ".".join(r.with_suffix("").parts).removesuffix("__init__").rstrip(".")) for p, r in found]


def room(name: str) -> str:
    """The top-level module or package below clipseg_ws that a dotted name belongs to."""
    return name.split(".")[0]


def imported(path: Path, known: set[str]) -> set[str]:
    """Modules of clipseg_ws that a file imports, function-level imports included, as names below clipseg_ws."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if name.removeprefix("clipseg_ws.") in known}
            names |= modules or {node.module}
    mine = {name.removeprefix("clipseg_ws").lstrip(".") for name in names if name.split(".")[0] == "clipseg_ws"}
    return {name for name in mine if name in known}


@cache
def arrows() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    found = modules()
    known = {name for _, name in found}
    return {name: imported(path, known) - {name} for path, name in found}


@pytest.mark.parametrize("name", [n for _, n in modules()], ids=[n or "clipseg_ws" for _, n in modules()])
def test_rooms(name):
    here = room(name)
    assert here in FLOOR, f"{name}: the room {here!r} stands on no floor; add it to FLOORS and to CONTRIBUTING.md"
    for there in sorted(map(room, arrows()[name])):
        below = FLOOR[there] < FLOOR[here] or there == here or (here in GROUND and there in GROUND)
        assert below or (here, there) in DOORS, f"{name} (floor {FLOOR[here]}) imports {there} (floor {FLOOR[there]})"


def test_every_package_is_installed():
    """``pip install .`` takes the folders that pyproject.toml lists, and none else."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    here = [(ROOT / "clipseg_ws", ""), (ROOT / "eval", "eval"), (ROOT / "prompts", "prompts")]
    found = {".".join(filter(None, ["clipseg_ws", name, *p.parent.relative_to(base).parts]))
             for base, name in here for p in base.rglob("__init__.py")}  # fmt: skip
    assert found == set(listed)


def test_no_cycles():
    graph = {name: there - {""} for name, there in arrows().items() if name}
    order = TopologicalSorter(graph)
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(f"imports go in a circle: {' -> '.join(error.args[1])}")


def test_rooms_of_eval():
    """Inside ``eval`` a room knows the rooms of the floors below, and nothing else beside itself."""
    floor = {room: number for number, rooms in enumerate(EVAL_FLOORS) for room in rooms}
    inside = {name: [other for other in there if other.startswith("eval.")] for name, there in arrows().items()}
    for name, other in ((name, other) for name, there in inside.items() if name.startswith("eval.") for other in there):
        here, that = name.split(".")[1], other.split(".")[1]
        assert here == that or floor[that] < floor[here], f"{name} imports {other}"


def test_tensor_layers_do_not_read_files():
    """Between images and output: no print, no open, no device choice."""
    for path, name in modules():
        if room(name) not in ("activations", "refine"):
            continue
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"print", "open", "input"}, f"{name}: {calls & {'print', 'open', 'input'}}"
        assert "cuda.is_available" not in path.read_text(), f"{name} picks a device"


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light():
    code = "import sys, clipseg_ws; assert clipseg_ws.Segmentation; "
    code += "print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    assert run(code).strip() == "[]"


def test_help_does_not_import_torch():
    code = (
        "import sys; from clipseg_ws.cli import app as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'pandas', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    printed = run(code)
    assert "predict" in printed and "HEAVY []" in printed
