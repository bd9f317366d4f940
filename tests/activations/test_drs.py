"""Region suppression: peaks are flattened, nothing is lowered, zero stays zero."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.activations.drs import suppress_discriminative


def test_every_cell_against_a_loop():
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 4, 5)
    maps[1, 2] = 0  # an absent class
    out = suppress_discriminative(maps, 0.45)
    for b in range(2):
        for k in range(3):
            top = float(maps[b, k].max())
            for value, got in zip(maps[b, k].flatten().tolist(), out[b, k].flatten().tolist(), strict=True):
                assert got == pytest.approx(top if value > 0.55 * top else value / 0.55, abs=1e-6)
    assert (out >= maps).all() and not out[1, 2].any() and torch.equal(out.amax((-2, -1)), maps.amax((-2, -1)))
    assert (out == out.amax((-2, -1), keepdim=True)).sum() > 6  # the peak has become a plateau


def test_off_and_wrong():
    maps = torch.rand(2, 1, 3, 4)
    assert torch.equal(suppress_discriminative(maps, 0.0), maps)
    assert suppress_discriminative(maps[:, :0], 0.5).shape == (2, 0, 3, 4)
    with pytest.raises(ValueError, match=r"suppression=1.*for example"):
        suppress_discriminative(maps, 1.0)
