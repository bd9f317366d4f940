"""Fixtures shared by all tests: the developers' data (skipped with a reason where absent) and small random CLIPs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# What is installed is tested, not the folders of the checkout: here (python -m pytest) and in child processes.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
os.environ["PYTHONSAFEPATH"] = "1"
WORKER = "PYTEST_XDIST_WORKER" in os.environ
if WORKER:  # workers share the cores, in what they start too
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
SHARED = ROOT.parent / "shared"
SEED = 2026  # of the order of tests


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """`pytest` without a path runs in up to four processes where pytest-xdist is there; with a path, or -n0, in one.

    Where pytest-randomly is there the order is mixed, the same way every time unless ``--randomly-seed=N`` is given.
    """
    if WORKER:  # called in every worker too: it must not start workers of its own
        return
    if getattr(config.option, "randomly_seed", None) == "default":
        config.option.randomly_seed = SEED
    option, cores = config.option, os.cpu_count() or 1
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if whole and cores > 1 and config.pluginmanager.hasplugin("xdist") and option.numprocesses is None:
        option.numprocesses, option.dist = min(4, cores), "loadfile"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' data folder beside the checkout; a clone on a user's machine has none."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("no ../shared beside this checkout (developers' data, not part of the product)")
    return SHARED


@pytest.fixture(scope="session")
def golden_manifest(shared: Path) -> dict:
    """Case name -> its manifest entry."""
    manifest = json.loads((shared / "golden" / "manifest.json").read_text())
    return {Path(case["file"]).stem: case for case in manifest["cases"]}


@pytest.fixture(scope="session")
def golden(shared: Path):
    """``golden(case)`` -> dict of tensors, floating point ones as stored (float32)."""
    from safetensors.torch import load_file

    return lambda case: load_file(str(shared / "golden" / f"{case}.safetensors"))


def golden_cases(kind: str) -> list[str]:
    """Names of the recorded cases of one kind, for parametrize; one placeholder that skips where there are none."""
    path = SHARED / "golden" / "manifest.json"
    if not path.is_file():
        return ["no-shared-folder"]
    return [Path(case["file"]).stem for case in json.loads(path.read_text())["cases"] if case["kind"] == kind]


def tiny_clip(*, width: int = 64, layers: int = 3, image_size: int = 64, embed: int = 32, quick_gelu: bool = True):
    """A small random open_clip.CLIP (patch 16, CLIP's tokenizer vocabulary), seeded, float32, eval mode."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.model.CLIP(
        embed_dim=embed,
        vision_cfg={"image_size": image_size, "layers": layers, "width": width, "head_width": 32, "patch_size": 16},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
        quick_gelu=quick_gelu,
    )
    return model.eval()


HYBRID_CFG = {
    "embed_dim": 24,
    "quick_gelu": False,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16,
                   "stem": "tf_efficientnet_lite0"},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}  # fmt: skip


@torch.no_grad()
def noisy_stem(stem: torch.nn.Module) -> torch.nn.Module:
    """The stem with norms that are no ones and zeros, in eval mode.

    Its batch norms have seen noise, so that features depend on the picture; blocks with a shortcut add little to it, as
    layers of random weights enlarge what rounding leaves.
    """
    norms = [part for part in stem.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for parameter in stem.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
    for part in stem.modules():
        if getattr(part, "has_skip", False):
            part.bn3.weight.mul_(0.2)
    for norm in norms:
        norm.momentum = 1.0
    stem.train()(torch.randn(4, 3, 64, 96))
    for norm in norms:
        norm.momentum = 0.1
    return stem.eval()


def tiny_hybrid():
    """A small random hybrid CLIP (``HYBRID_CFG``), seeded, float32, eval mode, its stem ``noisy_stem``'s."""
    from clipseg_ws.backbones.hybrid import empty_hybrid

    torch.manual_seed(0)
    model = empty_hybrid(HYBRID_CFG)
    noisy_stem(model.visual.conv1).project.weight.data.mul_(0.3)  # patches about as strong as positions
    return model.eval()


def save_tiny_hybrid(folder: Path, *, dtype: torch.dtype = torch.float32, weights: str = "open_clip_model.safetensors"):
    """``tiny_hybrid`` in a folder of open_clip's format, without the counters of its batch norms; the saved model."""
    from safetensors.torch import save_file

    model = tiny_hybrid().to(dtype)
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / weights)
    half = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": HYBRID_CFG, "preprocess_cfg": half}))
    return model.float()


def small_dino():
    """A small random DINOv2 with patches of 14 pixels, as a ``FeatureBackbone``."""
    import transformers as tf

    from clipseg_ws.backbones.features import FeatureBackbone

    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return FeatureBackbone(tf.Dinov2Model(tf.Dinov2Config(patch_size=14, image_size=56, **sizes)), name="small-dino")


@pytest.fixture(scope="session")
def tiny_backbone():
    """An OpenClipBackbone around ``tiny_clip()``."""
    from clipseg_ws.backbones.openclip import OpenClipBackbone

    return OpenClipBackbone(tiny_clip())
