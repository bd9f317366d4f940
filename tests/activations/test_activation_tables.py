"""Every line of the tables of dense modes and features: its function, its parameters, what comes out."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import small_dino

from clipseg_ws.activations import DENSE_MODES, FEATURES, layers_needed
from clipseg_ws.activations.featuremaps import feature_maps
from clipseg_ws.activations.proxy import patch_features
from clipseg_ws.regions.region_set import RegionSet


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("entry", [*DENSE_MODES.values(), *FEATURES.values()], ids=lambda entry: entry.name)
def test_parameters_are_those_of_the_function(entry):
    known = inspect.signature(entry.load()).parameters
    for name, default in entry.parameters.items():
        assert known[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert known[name].default == default or entry.about.get("clip_only")  # features fix the mode themselves
    assert entry.summary and not entry.summary.endswith(".")


@pytest.mark.parametrize("name", DENSE_MODES)
def test_every_dense_mode_gives_unit_vectors(name, tiny_backbone, pixels):
    entry, tokens = DENSE_MODES[name], tiny_backbone.encode(pixels)
    second = entry.about.get("second_model", False)
    asked = patch_features(small_dino(), pixels) if second else name
    if entry.about.get("regions"):
        regions = [RegionSet.from_labels(np.arange(48 * 80).reshape(48, 80) // 1280)] * 2
        asked = regions if not second else asked
    more = (regions,) if second and entry.about.get("regions") else ()
    found = entry.load()(tiny_backbone, tokens, asked, *more, **entry.parameters)
    assert found.shape[0] == 2 and found.shape[3] == 32 and (second or found.shape[1:3] == tokens.grid)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(found.shape[:3]))
    assert torch.equal(found, entry.load()(tiny_backbone, tokens, asked, *more))


@pytest.mark.parametrize("name", FEATURES)
def test_every_kind_of_features_is_a_map(name, tiny_backbone, pixels):
    kind = name.replace("INDEX", "1")
    tokens = tiny_backbone.encode(pixels, keep_layers=layers_needed([kind]))
    found = feature_maps(tiny_backbone, tokens, [kind])[kind]
    assert found.shape[0] == 2 and found.shape[2:] == tokens.grid
    model = small_dino()
    tokens = model.encode(torch.randn(1, 3, 42, 56), attention_blocks=0, keep_layers=layers_needed([kind]))
    if not FEATURES[name].about["clip_only"]:
        assert feature_maps(model, tokens, [kind])[kind].shape == (1, 32, 3, 4)
    else:
        with pytest.raises(ValueError, match=r"choose from input, layer:INDEX$"):
            feature_maps(model, tokens, [kind])


@pytest.mark.parametrize("module", ["activations", "refine", "regions", "weak", "text", "text.lists"])
def test_tables_are_light(module):
    code = f"import sys, clipseg_ws.{module}; print(sorted({{'torch', 'numpy', 'pandas', 'PIL'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
