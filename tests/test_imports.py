"""The layer order of DESIGN, read from the source, and the lightness of the import and of ``--help``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# layer of each module or package below clipseg_ws; a module may import lower layers, its own layer and L0
LAYERS = {
    "": 0, "structures": 0, "files": 0, "feeding": 0, "batching": 0,
    "images": 1, "sources": 1, "vocabulary": 1, "prompt_lists": 1, "text_embeddings": 1, "prompt_selection": 1,
    "template_experts": 1, "background_words": 1,
    "object_store": 1, "weak": 1, "weak_marks": 1, "marks_json": 1, "weak_constraints": 1, "supports": 1,
    "backbones": 2, "nano": 2,
    "activations": 3,
    "refine": 4, "bank": 4, "fewshot_config": 4,
    "decide": 5, "heads": 5, "constrain": 5, "fewshot_bank": 5, "fewshot": 5, "fewshot_text": 5,
    "output": 6, "palette": 6, "exports": 6, "export_tools": 6, "outlines": 6, "review": 6,
    "config": 7, "inputs": 7, "token_cache": 7, "windows": 7, "dense_stage": 7, "many_words": 7, "better_maps": 7,
    "encoding": 7, "looks": 7, "instances": 7, "stages": 7, "decisions": 7, "head_stage": 7,
    "fewshot_stages": 7, "fewshot_supports": 7, "results": 7, "names": 7, "map_stage": 7, "pipeline": 7,
    "job": 8, "runner": 8, "engine_ray": 8, "ray_pool": 0, "pseudo": 8, "tracking": 8,
    "head_config": 8, "head_data": 8, "head_recipe": 8, "head_masks": 8, "head_views": 8, "head_bench": 8,
    "commands_heads": 9, "__main__": 9, "web": 9,
    "commands_demo": 9,
    "options": 9, "commands_prompts": 9, "commands_weak": 9, "commands_fewshot": 9, "cli": 9, "demo": 9, "doctor": 9,
    "prompts": 0,
    "eval": 10,
}  # fmt: skip

# doors that are opened on call and documented where they stand
ALLOWED = {
    ("structures", "output"),  # Segmentation.save and .overlay
    ("nano", "pipeline"),  # evaluating the embedded model is a client of the public API
    ("nano", "activations"), ("nano", "refine"), ("nano", "decide"),
    ("cli", "eval"), ("demo", "eval"),  # the command line mounts the evaluator
    ("", "pipeline"), ("", "config"), ("", "backbones"),  # lazy public names
}  # fmt: skip


def modules() -> list[tuple[Path, str]]:
    """(file, dotted name below clipseg_ws) of every module of the product."""
    found = [(p, p.relative_to(ROOT / "clipseg_ws")) for p in sorted((ROOT / "clipseg_ws").rglob("*.py"))]
    found += [(p, p.relative_to(ROOT)) for folder in ("eval", "prompts") for p in sorted((ROOT / folder).rglob("*.py"))]
    return [(p, ".".join(r.with_suffix("").parts).removesuffix("__init__").rstrip(".")) for p, r in found]


def room(name: str) -> str:
    """The top-level module or package below clipseg_ws that a dotted name belongs to."""
    return name.split(".")[0]


def imported(path: Path) -> set[str]:
    """Rooms of clipseg_ws that a file imports, function-level imports included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            if node.module == "clipseg_ws":
                names |= {f"clipseg_ws.{alias.name}" for alias in node.names}
    rooms = {room(n.removeprefix("clipseg_ws").lstrip(".")) for n in names if n.split(".")[0] == "clipseg_ws"}
    return {r if r in LAYERS else "" for r in rooms}


@pytest.mark.parametrize(("path", "name"), modules(), ids=[n or "clipseg_ws" for _, n in modules()])
def test_layers(path, name):
    here = room(name)
    assert here in LAYERS, f"{name} has no layer: add it to LAYERS and to DESIGN's picture"
    for there in imported(path):
        allowed = LAYERS[there] <= LAYERS[here] or (here, there) in ALLOWED
        assert allowed, f"{name} (L{LAYERS[here]}) imports {there} (L{LAYERS[there]})"


def test_tensor_layers_do_not_read_files():
    """Between images and output: no print, no open, no device choice."""
    for path, name in modules():
        if room(name) not in ("activations", "refine", "decide"):
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
        "import sys; from clipseg_ws import cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'pandas', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    printed = run(code)
    assert "predict" in printed and "HEAVY []" in printed
