"""The script behind ``words.csv``, at a tiny size."""

from __future__ import annotations

import csv

import pytest
import torch

from clipseg_ws import Segmenter
from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.eval.experiments import words_scenes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path / "cache"))


def test_rows(tmp_path, capsys):
    words_scenes.main(["-o", str(tmp_path / "out"), "--count", "2", "--presence", "2"])
    with open(tmp_path / "out" / "words.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == ["background"] * 3 + ["experts"] * 3 + ["presence"] * 3
    assert [row["measure"] for row in rows] == ["mIoU"] * 6 + ["F1"] * 3
    assert all(0 < float(row["value"]) <= 1 and row["n_images"] == "2" for row in rows)
    assert "imagenet7 --top 3" in capsys.readouterr().out


def test_made_up_names_lie_where_they_should():
    segmenter = Segmenter("nano", dtype="float32")
    kinds = segmenter.embed_names(segmenter.vocabulary(list(KINDS)))
    text = words_scenes.look_alikes(kinds, 100, 0.7)
    own, made = text.vectors[:12], text.vectors[12:100]
    assert torch.equal(own, kinds.vectors[:12]) and torch.equal(text.owner[:100], torch.arange(100))
    assert len(text.vectors) == len(text.owner) == 100 + int((kinds.owner < 0).sum())
    assert torch.allclose(made.norm(dim=1), torch.ones(88), atol=1e-5)
    nearest = (made @ own.t()).max(1).values
    assert (nearest > 0.7 - 1e-4).all() and nearest.median() < 0.71
    assert len(set(text.vocabulary.names)) == 100
