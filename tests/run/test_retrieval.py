"""Galleries of files, from the folder to the answer, with drawn scenes."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import scene
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws import Segmenter
from clipseg_ws.cli.app import app
from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.fewshot.gallery import load_gallery
from clipseg_ws.fewshot.supports import read_support_dir
from clipseg_ws.run import retrieval


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("examples")
    for kind in ("sun", "house"):
        (root / kind).mkdir()
        for seed in range(4):
            drawn = scene(seed)
            mask = drawn.labels == KINDS.index(kind) + 1
            if mask.any():
                drawn_image = drawn.image if isinstance(drawn.image, Image.Image) else Image.fromarray(drawn.image)
                drawn_image.save(root / kind / f"{seed}.jpg")
                Image.fromarray(mask.astype(np.uint8) * 255).save(root / kind / f"{seed}.png")
    return root


def test_the_nearest_answer_with_the_name(folder, monkeypatch):
    segment = Segmenter("nano", dtype="float32", short_side=224)
    gallery = retrieval.build_gallery(segment, read_support_dir(folder))
    assert gallery.labels == ("house", "sun") and np.allclose(gallery.vectors.float().norm(dim=1), 1, atol=1e-2)
    query = gallery.supports[0]  # a picture finds itself first
    asked = []
    real = segment.ask
    monkeypatch.setattr(segment, "ask", lambda c, **more: (asked.append(more.get("supports")), real(c, **more))[1])
    result = retrieval.segment_retrieved(segment, gallery, query.image, "house; sun; tree", 1)
    assert result.names == ("house", "sun", "tree") and asked[0] is None
    assert asked[-1][0].image == query.image and result.setting == "few"
    want = real("house; sun; tree", supports=asked[-1])
    assert np.array_equal(result.labels, segment.answer(want, [query.image])[0].labels)
    with pytest.raises(ValueError, match="at least one example"):
        retrieval.segment_retrieved(segment, gallery, query.image, "sun", 0)


def test_the_commands(folder, tmp_path):
    file, common = tmp_path / "g.safetensors", ["--model", "nano", "--dtype", "float32"]
    built = CliRunner().invoke(app, ["bank", "build", str(folder), "-o", str(file), *common])
    assert built.exit_code == 0, built.output
    assert "2 classes" in built.output and load_gallery(file).labels == ("house", "sun")
    picture = next((folder / "sun").glob("*.jpg"))
    asked = ["bank", "predict", str(picture), "--from", str(file), "--nearest", "2", "-o", str(tmp_path / "out")]
    found = CliRunner().invoke(app, [*asked, "--format", "png", *common])
    assert found.exit_code == 0, found.output
    assert (tmp_path / "out" / f"{picture.stem}.png").is_file()
    refused = CliRunner().invoke(app, [*asked, "--format", "coco", *common])
    assert "one picture a time" in str(refused.exception)
