"""A mask is what a person sees: one object in many forms of file, and label maps that stay label maps."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.fewshot.mask_values import is_soft
from clipseg_ws.fewshot.masks import MaskWarning
from clipseg_ws.fewshot.supports import SupportError, read_mask, read_support_dir
from clipseg_ws.output.segmentation import Segmentation

H, W = 96, 128
yy, xx = np.mgrid[:H, :W]
BLOB = ((yy - 50) ** 2 / 900 + (xx - 60) ** 2 / 1600) < 1
THIN = np.zeros((H, W), bool)
THIN[:, 60:62] = True
THIN[40:42] = True
SMALL = np.zeros((H, W), bool)
SMALL[40:47, 60:67] = True
OBJECTS = {"blob": BLOB, "thin": THIN, "small": SMALL, "large": ~SMALL}


def grey(mask, value=255):
    return Image.fromarray((mask * value).astype(np.uint8))


def rgba(mask, inside=(255, 255, 255), outside=(0, 0, 0)):
    values = np.zeros((H, W, 4), np.uint8)
    values[..., :3] = np.where(mask[..., None], inside, outside)
    values[..., 3] = mask * 255
    return Image.fromarray(values)


def cut_out(mask):
    values = np.random.default_rng(0).integers(1, 255, (H, W, 4)).astype(np.uint8)
    values[..., 3] = mask * 255
    return Image.fromarray(values)


def resized(mask, factor=0.5):
    small = grey(mask).resize((int(W * factor), int(H * factor)), Image.Resampling.BILINEAR)
    return small.resize((W, H), Image.Resampling.BILINEAR)


def clear_palette(mask):
    image = Image.fromarray(mask.astype(np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.info["transparency"] = 0
    return image


EXACT = {
    "grey 255": grey,
    "grey 1": lambda m: grey(m, 1),
    "grey 254": lambda m: grey(m, 254),
    "mode 1": lambda m: grey(m).convert("1"),
    "LA": lambda m: grey(m).convert("LA"),
    "white, rest clear black": rgba,
    "white, rest clear white": lambda m: rgba(m, outside=(255, 255, 255)),
    "black, rest clear": lambda m: rgba(m, inside=(0, 0, 0)),
    "cut-out": cut_out,
    "clear palette entry": clear_palette,
    "quantized grey": lambda m: grey(m).quantize(2),
    "adaptive palette": lambda m: grey(m).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=2),
    "web palette": lambda m: grey(m).convert("RGB").convert("P"),
    "quantized colours": lambda m: rgba(m, inside=(255, 0, 0)).convert("RGB").quantize(2),
    "colours": lambda m: rgba(m, inside=(255, 0, 0)).convert("RGB"),
    "two colours": lambda m: Image.fromarray(
        (m[..., None] * np.where(xx[..., None] < 62, (255, 0, 0), (0, 128, 0))).astype(np.uint8)
    ),
    "16 bit": lambda m: Image.fromarray((m * 65535).astype(np.uint16)),
    "16 bit, 255": lambda m: Image.fromarray((m * 255).astype(np.uint16)),
    "float": lambda m: Image.fromarray(m.astype(np.float32)),
}


def iou(read, truth):
    found = read == 1
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.filterwarnings("ignore::clipseg_ws.fewshot.masks.MaskWarning")
@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("form", EXACT)
def test_exact_masks(tmp_path, form, name):
    image = EXACT[form](OBJECTS[name])
    for suffix in [".tif"] if form == "float" else [".png", ".tif"] if image.mode not in ("LA", "P") else [".png"]:
        options = {"transparency": 0} if form == "clear palette entry" else {}
        image.save(tmp_path / f"m{suffix}", **options)
        read = read_mask(tmp_path / f"m{suffix}", (W, H))
        assert np.array_equal(read, OBJECTS[name].astype(np.uint8))


@pytest.mark.filterwarnings("ignore::clipseg_ws.fewshot.masks.MaskWarning")
@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("quality", [95, 75, 50, 30])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_masks_keep_their_object_also_when_saved_again(tmp_path, name, quality, mode):
    mask = OBJECTS[name]
    grey(mask).convert(mode).save(tmp_path / "m.jpg", quality=quality)
    Image.open(tmp_path / "m.jpg").save(tmp_path / "m.png")
    for file in ("m.jpg", "m.png"):
        assert iou(read_mask(tmp_path / file, (W, H)), mask) > 0.9


@pytest.mark.filterwarnings("ignore::clipseg_ws.fewshot.masks.MaskWarning")
@pytest.mark.parametrize("name", ["blob", "small", "large"])
def test_soft_masks_by_range(tmp_path, name):
    mask = OBJECTS[name]
    soft = np.asarray(resized(mask))
    forms = [soft, soft.astype(np.uint16) * 257, (soft.astype(np.float32) / 255)]
    for i, values in enumerate(forms):
        Image.fromarray(values).save(tmp_path / f"{i}.tif")
        assert iou(read_mask(tmp_path / f"{i}.tif", (W, H)), mask) > (0.85 if name == "small" else 0.97)


def test_probability_maps_by_range():
    for scale in (1, 5):
        rows, columns = np.mgrid[: H * scale, : W * scale] / scale
        chance = np.clip(1.2 - ((rows - 50) ** 2 / 900 + (columns - 60) ** 2 / 1600), 0, 1)
        values = (chance * 250).astype(np.uint8)
        with pytest.warns(MaskWarning, match="object from 127.5 of 255 up"):
            assert np.array_equal(read_mask(values, values.shape[::-1]) == 1, values >= 128)


def test_what_was_decided_is_said(tmp_path):
    resized(BLOB).save(tmp_path / "soft.png")
    rgba(BLOB, inside=(0, 0, 0)).save(tmp_path / "clear.png")
    grey(~BLOB).save(tmp_path / "inverted.png")
    said = {"soft": "a soft mask: object from 127.5 of 255 up", "clear": "not transparent", "inverted": "inverted?"}
    for name, words in said.items():
        with pytest.warns(MaskWarning, match=words):
            read_mask(tmp_path / f"{name}.png", (W, H))


def test_label_maps_stay_label_maps():
    labels = np.zeros((H, W), np.uint8)
    labels[10:60, 10:50], labels[20:50, 60:100], labels[70:90] = 3, 130, 17
    labels[10:60, 50:52] = 255
    labels[5:8, 5:120] = 77
    read = read_mask(labels, (W, H))
    assert not is_soft(labels) and ((read == 1) == ((labels > 0) & (labels < 255))).all() and (read == 255).sum() == 100
    assert ((read_mask((labels, 130), (W, H)) == 1) == (labels == 130)).all()
    many = np.kron(
        np.random.default_rng(0).permutation(200).reshape(10, 20).astype(np.uint8), np.ones((8, 6), np.uint8)
    )
    assert not is_soft(many)


def test_real_label_maps_are_not_soft(shared):
    files = sorted((shared / "data/voc_subset/VOC2012/SegmentationClass").glob("*.png"))[:60]
    assert files and not any(is_soft(np.asarray(Image.open(file))) for file in files)


def test_a_palette_without_a_background_asks_which_number_is_meant(tmp_path):
    image = Image.fromarray(np.where(BLOB, 1, 2).astype(np.uint8), mode="P")
    image.putpalette([9, 9, 9, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "m.png")
    with pytest.raises(SupportError, match=r"neither the number 0 nor black occurs \(numbers 1, 2\).*mask\.png#"):
        read_mask(tmp_path / "m.png", (W, H))
    assert np.array_equal(read_mask(f"{tmp_path}/m.png#1", (W, H)), BLOB.astype(np.uint8))


@pytest.mark.parametrize("factor", [2, 3, 0.5])
def test_masks_of_another_size_are_scaled_and_thin_objects_survive(factor):
    size = (int(W * factor), int(H * factor))
    for mask in (BLOB, SMALL, THIN):
        with pytest.warns(MaskWarning, match=f"scaled from {W}x{H} to {size[0]}x{size[1]}"):
            read = read_mask(mask, size)
        wanted = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX))
        assert read.shape == size[::-1] and (read[wanted >= 0.99] == 1).all() and not (read[wanted == 0] == 1).any()
    wire = np.zeros((400, 400), bool)
    wire[:, 201] = True
    with pytest.warns(MaskWarning):
        assert (read_mask(wire, (100, 100)) == 1).any(1).all()
    with pytest.raises(SupportError, match="128x96 pixels, the picture 100x100"):
        read_mask(BLOB, (100, 100))


def test_the_products_own_run_lengths_are_a_mask(tmp_path):
    pytest.importorskip("pycocotools")
    labels = np.where(BLOB, 1, 0).astype(np.uint8)
    labels[:10] = 2
    result = Segmentation(labels, ("cat", "dog"), {}, np.ones((H, W), np.float32), source="a.png")
    from clipseg_ws.output.save import save

    (file,) = save(result, tmp_path, ["rle"], stem="a")
    assert np.array_equal(read_mask(file, (W, H)), (labels > 0).astype(np.uint8))
    for value in (1, 2):
        assert np.array_equal(read_mask(f"{file}#{value}", (W, H)) == 1, labels == value)
    content = json.loads(file.read_text())
    content["images"] *= 2
    (tmp_path / "two.json").write_text(json.dumps(content))
    with pytest.raises(SupportError, match="holds 2 pictures"):
        read_mask(tmp_path / "two.json", (W, H))


def test_pairs_of_a_folder(tmp_path):
    pytest.importorskip("pycocotools")
    pairs = (("IMG_1.JPG", "IMG_1.PNG"), ("1.jpg", "1_mask.jpg"), ("x.png", "x_mask.png"), ("y.jpeg", "y_rle.json"))
    for folder, (image, mask) in zip("abcd", pairs, strict=True):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (W, H)).save(tmp_path / folder / image, format="JPEG" if "j" in image.lower() else "PNG")
        if mask.endswith("json"):
            (tmp_path / folder / mask).write_text(json.dumps({"size": [1, 2], "counts": [1, 1]}))
        else:
            buffer = io.BytesIO()
            grey(BLOB).save(buffer, format="JPEG" if mask.endswith("jpg") else "PNG")
            (tmp_path / folder / mask).write_bytes(buffer.getvalue())
    found = [(s.label, s.image.name, s.mask.name) for s in read_support_dir(tmp_path)]
    assert found == [(folder, *pair) for folder, pair in zip("abcd", pairs, strict=True)]


def test_folders_inside_a_label_and_twins(tmp_path):
    for name in ("cat/1.jpg", "cat/2024/1.jpg", "cat/2024/may/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H)).save(tmp_path / name)
        grey(BLOB).save((tmp_path / name).with_suffix(".png"))
    for masks in (True, False):
        names = [s.image.relative_to(tmp_path).as_posix() for s in read_support_dir(tmp_path, masks=masks)]
        assert {"cat/1.jpg", "cat/2024/1.jpg", "cat/2024/may/2.jpg"} <= {*names}
    assert [s.label for s in read_support_dir(tmp_path)] == ["cat"] * 3
    Image.new("RGB", (W, H)).save(tmp_path / "cat/1.bmp")
    with pytest.raises(SupportError, match=r"cat/1\.png' is the mask of 1\.bmp and of 1\.jpg"):
        read_support_dir(tmp_path)


def test_a_black_drawing_on_white_paper(tmp_path):
    drawn = np.full((40, 50), 255, np.uint8)
    drawn[10:20, 15:30] = 0
    Image.fromarray(drawn).save(tmp_path / "m.png")
    with pytest.warns(MaskWarning, match=r"is the mask inverted\? \(mask, 0\) or 'mask\.png#0' takes the black part"):
        assert np.array_equal(read_mask(tmp_path / "m.png", (50, 40)), (drawn == 255).astype(np.uint8))
    for mask in ((drawn, 0), f"{tmp_path / 'm.png'}#0"):
        assert np.array_equal(read_mask(mask, (50, 40)), (drawn == 0).astype(np.uint8))
    drawn[0, 0] = 7  # a label map: 255 is ignored
    assert set(np.unique(read_mask((drawn, 0), (50, 40)))) == {0, 1, 255}


def test_labelmes_polygons_are_a_mask(tmp_path):
    shapes = [
        {"label": "cat", "shape_type": "polygon", "points": [[2, 2], [8, 2], [8, 6], [2, 6]]},
        {"label": "dog", "shape_type": "rectangle", "points": [[10, 1], [12, 9]]},
        {"label": "cat", "shape_type": "circle", "points": [[25, 5], [28, 5]]},
        {"label": "cat", "shape_type": "point", "points": [[1, 1]]},
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": shapes, "imageHeight": 10, "imageWidth": 30}))
    mask = read_mask(path, (30, 10))
    assert mask[2:6, 2:8].all() and mask[1:9, 10:12].all() and abs(int(mask[:, 20:].sum()) - 28) < 6
    assert mask.sum() == 24 + 16 + mask[:, 20:].sum()
    assert read_mask(f"{path}#2", (30, 10)).sum() == 16  # the second label of the file
    for content, words in (
        ({"shapes": shapes[3:], "imageHeight": 10, "imageWidth": 30}, "no shape that can be filled"),
        ({"shapes": shapes, "imageHeight": 10**9, "imageWidth": 10**9}, "10+ x 10+ pixels, at most"),
        ({"shapes": [shapes[0] | {"points": [[1, 2]]}], "imageHeight": 10, "imageWidth": 30}, "shape 1 of 'cat'"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(SupportError, match=words):
            read_mask(path, (30, 10))


def test_a_piece_of_two_corners_beside_a_good_polygon_is_said(tmp_path):
    pytest.importorskip("pycocotools", reason="extra [coco] is not installed")
    good, flat = [2, 2, 8, 2, 8, 6, 2, 6], [1, 1, 9, 9]
    content = {
        "images": [{"id": 1, "height": 10, "width": 30}], "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 3, "image_id": 1, "category_id": 1, "segmentation": [flat, good]}],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="1 of 2 pieces of a polygon have no three corners"):
        assert read_mask(tmp_path / "a.json", (30, 10)).sum() == 24
    content["annotations"][0]["segmentation"] = [flat]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(SupportError, match="no three corners"):
        read_mask(tmp_path / "a.json", (30, 10))
