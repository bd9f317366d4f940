"""Reading examples: every form of mask, folders, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws.fewshot.supports import SupportError, read_mask, read_support, read_support_dir, read_supports
from clipseg_ws.structures import Support

W, H = 10, 6


def thing(value: int = 1, edge: int | None = None) -> np.ndarray:
    """uint8 [H, W] with ``value`` at rows 1-3, columns 2-5, and perhaps an edge value on its last column."""
    mask = np.zeros((H, W), np.uint8)
    mask[1:4, 2:6] = value
    if edge is not None:
        mask[1:4, 6] = edge
    return mask


def picture(path: Path | None = None, size: tuple[int, int] = (W, H)) -> Image.Image:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    if path is not None:
        image.save(path)
    return image


def palette(path: Path, mask: np.ndarray) -> Path:
    image = Image.fromarray(mask, mode="P")
    image.putpalette([c for i in range(256) for c in (i, 255 - i, 7)])
    image.save(path)
    return path


def test_arrays_of_all_kinds():
    want = thing()
    for mask in (thing().astype(bool), thing(), thing(9).astype(np.int64), thing(255), thing(1).tolist()):
        given = np.array(mask) if isinstance(mask, list) else mask
        assert np.array_equal(read_mask(given, (W, H)), want)
    assert np.array_equal(read_mask(thing(5, edge=255), (W, H)), thing(1, edge=255))  # boundary is ignored
    assert read_mask(thing(), (W, H)).dtype == np.uint8


def test_palette_png_with_and_without_a_value(tmp_path):
    mask = thing(8, edge=255)
    mask[5, :3] = 15
    path = palette(tmp_path / "m.png", mask)
    assert np.array_equal(read_mask((path, 8), (W, H)), thing(1, edge=255))
    both = read_mask(path, (W, H))
    assert (both[5, :3] == 1).all() and (both[1:4, 6] == 255).all()
    assert np.array_equal(read_mask((str(path), 15), (W, H)) == 1, mask == 15)
    assert np.array_equal(read_mask(f"{path}#15", (W, H)) == 1, mask == 15)


def test_soft_grey_and_colour_masks(tmp_path):
    soft = thing(255)
    soft[0, 2:8] = [30, 90, 127, 128, 160, 200]  # smooth border, as scaled masks have
    Image.fromarray(soft).save(tmp_path / "soft.png")
    assert np.array_equal(read_mask(tmp_path / "soft.png", (W, H)), (soft >= 128).astype(np.uint8))
    colour = np.zeros((H, W, 3), np.uint8)
    colour[thing() == 1] = (0, 128, 0)
    assert np.array_equal(read_mask(Image.fromarray(colour), (W, H)), thing())
    assert np.array_equal(read_mask(Image.fromarray(thing(255)).convert("1"), (W, H)), thing())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**20))
def test_rle_round_trip(seed):
    coco = pytest.importorskip("pycocotools.mask")
    mask = (np.random.default_rng(seed).random((H, W)) < 0.4).astype(np.uint8)
    mask[0, 0] = 1
    rle = coco.encode(np.asfortranarray(mask))
    text = {"size": rle["size"], "counts": rle["counts"].decode()}
    runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel(order="F"), [2]])))  # column by column, zeros first
    counts = np.diff(np.concatenate([[0], runs])).tolist()
    for form in (rle, text, {"size": [H, W], "counts": counts}, {"segmentation": text, "id": 3}):
        assert np.array_equal(read_mask(form, (W, H)), mask)


def test_rle_from_a_file_and_a_damaged_one(tmp_path):
    pytest.importorskip("pycocotools")
    (tmp_path / "m.json").write_text(json.dumps({"size": [H, W], "counts": [3, 4, H * W - 7]}))
    assert read_mask(tmp_path / "m.json", (W, H)).sum() == 4
    with pytest.raises(SupportError, match="add up to 7"):
        read_mask({"size": [H, W], "counts": [3, 4]}, (W, H))
    with pytest.raises(SupportError, match="'size' and 'counts'"):
        read_mask({"counts": [3, 4]}, (W, H))


def test_support_as_tuple_and_object(tmp_path):
    picture(tmp_path / "a.jpg")
    palette(tmp_path / "a.png", thing(1))
    for example in (
        Support(tmp_path / "a.jpg", tmp_path / "a.png", " cat "),
        (tmp_path / "a.jpg", tmp_path / "a.png", "cat"),
    ):
        read = read_support(example)
        assert read.image.size == (W, H) and read.image.mode == "RGB"
        assert np.array_equal(read.mask, thing()) and read.label == "cat"
    assert read_support((picture(), thing())).label is None
    assert read_support(Support(picture())).mask is None
    assert len(read_supports(Support(picture(), thing()))) == 1


def test_mask_must_have_the_upright_size(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # stored on its side
    picture(size=(H, W)).save(tmp_path / "a.jpg", exif=exif)
    assert read_support((tmp_path / "a.jpg", thing())).image.size == (W, H)
    with pytest.raises(SupportError, match=r"a\.jpg.* 6x10 pixels, the picture 10x6; .*EXIF"):
        read_support((tmp_path / "a.jpg", thing().T))
    with pytest.raises(SupportError, match="5x6 pixels, the picture 10x6; a mask of the picture's size"):
        read_support((tmp_path / "a.jpg", thing()[:, :5]))


def test_empty_masks_and_values_that_are_not_there():
    with pytest.raises(SupportError, match=r"empty: no pixel has any value but 0 \(it holds 0\)"):
        read_support((picture(), np.zeros((H, W), np.uint8)))
    with pytest.raises(SupportError, match=r"no pixel has value 7 \(it holds 0, 3, 255\)"):
        read_mask((thing(3, edge=255), 7), (W, H))


def test_unreadable(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no picture")
    cases = [
        (tmp_path / "m.png", "cannot be read"),
        (tmp_path / "none.png", "there is no mask"),
        (np.ones((H, W)), "float64"),
        (np.ones((H, W, 2), np.uint8), "allowed"),
        (7, "allowed"),
    ]
    for mask, reason in cases:
        with pytest.raises(SupportError, match=reason):
            read_support((picture(), mask))
    with pytest.raises(SupportError, match=r"support .*gone\.jpg.*no such file"):
        read_support((tmp_path / "gone.jpg", thing()))
    with pytest.raises(SupportError, match="label is empty"):
        read_support((picture(), thing(), " "))
    with pytest.raises(SupportError, match="tuple"):
        read_support("cat.jpg")  # type: ignore[arg-type]
    with pytest.raises(SupportError, match="at least one"):
        read_supports([])


def test_folder_layout(tmp_path):
    for label in ("cat", "duck toy"):
        (tmp_path / label).mkdir()
        picture(tmp_path / label / "1.jpg")
        palette(tmp_path / label / "1.png", thing())
    picture(tmp_path / "cat" / "shot.png")
    palette(tmp_path / "cat" / "shot_mask.png", thing())
    picture(tmp_path / "loose.jpeg")
    palette(tmp_path / "loose.png", thing())
    (tmp_path / ".hidden").mkdir()
    found = read_support_dir(tmp_path)
    assert [(s.label, Path(s.image).name, Path(s.mask).name) for s in found] == [
        (None, "loose.jpeg", "loose.png"),
        ("cat", "1.jpg", "1.png"), ("cat", "shot.png", "shot_mask.png"), ("duck toy", "1.jpg", "1.png"),
    ]  # fmt: skip
    assert len(read_supports(found)) == 4
    picture(tmp_path / "cat" / "alone.jpg")
    with pytest.raises(SupportError, match=r"alone\.jpg' has no mask; expected is alone\.png"):
        read_support_dir(tmp_path)


def test_folder_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"label/picture\.jpg"):
        read_support_dir(tmp_path / "none")
    with pytest.raises(SupportError, match="holds no examples"):
        read_support_dir(tmp_path)


def test_the_developers_photos(shared):
    folder = shared / "data" / "few_shot_photos"
    if not folder.is_dir():
        pytest.skip("no few_shot_photos")
    found = read_supports(read_support_dir(folder)[:2])
    assert all(set(np.unique(s.mask)) == {0, 1} and s.mask.shape == s.image.size[::-1] for s in found)
