"""Whatever a user holds as a picture: bytes, open files, tensors."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws.pictures.images import to_image
from clipseg_ws.pictures.reading import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def png(pixels=PIXELS, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_and_files_in_memory(wrap):
    assert np.array_equal(np.asarray(to_image(wrap(png()))), PIXELS)


def test_an_open_file_is_read_and_stays_open(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    with open(tmp_path / "a.png", "rb") as file:
        assert np.array_equal(np.asarray(to_image(file)), PIXELS) and not file.closed
        with pytest.raises(ImageError, match=r"a\.png' has nothing left to read.*seek\(0\)"):
            to_image(file)
        file.seek(0)
        assert to_image(file).size == (9, 6)
    with open(tmp_path / "a.png", "rb") as file, pytest.raises(ImageError, match="closed file"):
        file.close()
        to_image(file)
    with open(tmp_path / "a.bin", "w+b") as file, pytest.raises(ImageError, match="nothing left"):
        to_image(file)
    with pytest.raises(ImageError, match=r"gives str; open it in binary mode"):
        to_image(io.StringIO("text"))


def test_bytes_are_turned_by_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert to_image(png(exif=exif.tobytes())).size == (6, 9)


def test_damaged_bytes():
    with pytest.raises(ImageError, match="the bytes of an image"):
        to_image(png()[:40])


def test_tensors():
    whole = torch.from_numpy(PIXELS).permute(2, 0, 1)
    assert np.array_equal(np.asarray(to_image(whole)), PIXELS)
    assert np.array_equal(np.asarray(to_image(whole.float() / 255)), PIXELS)
    assert np.array_equal(np.asarray(to_image((whole.double() / 255).requires_grad_())), PIXELS)
    grey = np.asarray(to_image(whole[:1]))
    assert grey.shape == (6, 9, 3) and np.array_equal(grey[..., 0], PIXELS[..., 0])
    assert np.abs(np.asarray(to_image((whole / 255).half())).astype(int) - PIXELS).max() <= 1


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(2, 3, 4, 5), r"a batch of tensors \[2, 3, 4, 5\].*list\(batch\)"),
        (torch.zeros(4, 5, 3), r"permute\(2, 0, 1\)"),
        (torch.zeros(4, 5), r"a tensor \[4, 5\]; allowed"),
        (torch.zeros(3, 0, 5), r"\[3, 0, 5\]"),
        (torch.full((3, 4, 5), 2.0), r"from 2 to 2; floating point means \[0, 1\]"),
        (torch.full((3, 4, 5), math.nan), r"from nan to nan"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), r"a tensor of int64"),
    ],
)
def test_tensors_that_are_no_pictures(tensor, message):
    with pytest.raises(ImageError, match=message):
        to_image(tensor)


@pytest.mark.parametrize("thing", [None, 3, {"a": 1}, object()])
def test_other_things_say_what_is_allowed(thing):
    with pytest.raises(ImageError, match=r"allowed: a path or URL, .* an open binary file"):
        to_image(thing)
