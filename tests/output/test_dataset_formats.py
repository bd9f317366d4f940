"""Every export read back with the format's own library, or with a reader written from its documented grammar."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from clipseg_ws.output.formats.coco import coco_annotations, write_coco
from clipseg_ws.output.formats.cvat import write_cvat
from clipseg_ws.output.formats.labelstudio import (
    encode_brush,
    label_studio_config,
    label_studio_task,
    write_label_studio,
)
from clipseg_ws.output.formats.voc import write_voc
from clipseg_ws.output.formats.yolo import write_yolo, yolo_seg
from clipseg_ws.output.items import Item
from clipseg_ws.output.outlines import polygons, regions
from clipseg_ws.output.simplify import simplified
from clipseg_ws.pictures.sources import list_sources

NAMES = ("cat", "traffic light", "dog & co", "ship")


def label_map() -> np.ndarray:
    """[12, 19]: a cat with two holes, a dog in one; a ship in three parts, one at the cat's corner; 255; no light."""
    labels = np.zeros((12, 19), dtype=np.uint8)
    labels[1:8, 1:9] = 1
    labels[2:4, 2:5], labels[5:7, 4:8] = 0, 3
    labels[0:2, 15:19], labels[10:12, 17:19] = 4, 4
    labels[8:10, 9:12] = 4  # meets the cat in one corner
    labels[9:12, 0:3] = 255
    return labels


maps = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 2, 255])
)
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=11))


def fill(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd filling at pixel centres: a pixel is inside if a ray to its left crosses an odd number of sides."""
    height, width = shape
    crossings = np.zeros(shape, dtype=int)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        for y in range(height):
            if min(y1, y2) <= y + 0.5 < max(y1, y2):
                x = x1 + (y + 0.5 - y1) * (x2 - x1) / (y2 - y1)
                crossings[y] += np.arange(width) + 0.5 > x
    return crossings % 2 == 1


# ---- outlines


@settings(max_examples=150, deadline=None)
@given(masks)
def test_polygons_fill_back_exactly(mask):
    found = polygons(mask)
    filled = [fill(polygon, mask.shape) for polygon in found]
    total = np.sum(filled, axis=0) if found else np.zeros(mask.shape, int)
    np.testing.assert_array_equal(total, mask.astype(int))  # a sum: regions do not overlap
    for polygon in found:
        sides = np.roll(polygon, -1, axis=0) - polygon
        assert ((sides[:, 0] == 0) | (sides[:, 1] == 0)).all()  # bridges too run along pixel borders


def test_regions_by_hand():
    mask = np.zeros((4, 6), dtype=bool)
    mask[0:3, 0:3] = True
    mask[1, 1] = False
    mask[3, 3:5] = True  # touches the first region in a corner only
    first, second = regions(mask)
    assert {tuple(p) for p in first[0].tolist()} == {(0, 0), (3, 0), (3, 3), (0, 3)} and len(first[0]) == 4
    assert {tuple(p) for p in first[1].tolist()} == {(1, 1), (2, 1), (2, 2), (1, 2)} and len(first) == 2
    assert {tuple(p) for p in second[0].tolist()} == {(3, 3), (5, 3), (5, 4), (3, 4)} and len(second) == 1
    assert polygons(np.zeros((3, 4), dtype=bool)) == []
    with pytest.raises(ValueError, match="bool"):
        polygons(np.zeros((3, 4)))


# ---- COCO


def decoded(annotation: dict, shape: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco

    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, *shape))
    return coco.decode(segmentation).astype(bool)


@pytest.mark.parametrize("style", ["rle", "polygons"])
@pytest.mark.parametrize("components", [False, True])
@settings(max_examples=60, deadline=None)
@given(labels=maps)
def test_coco_annotations_decode_to_the_labels(style, components, labels):
    pytest.importorskip("pycocotools", reason="extra [coco] is not installed")
    found = coco_annotations(labels, ("a", "b"), style=style, components=components)
    rebuilt = np.zeros(labels.shape, dtype=int)
    for annotation in found:
        mask = decoded(annotation, labels.shape)
        rebuilt += mask * annotation["category_id"]
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == box and annotation["area"] == mask.sum() > 0
    np.testing.assert_array_equal(rebuilt, np.where(labels == 255, 0, labels))
    if not components:
        assert len(found) == len(set(np.unique(labels)) - {0, 255})


@pytest.mark.parametrize("style", ["rle", "polygons"])
def test_coco_file_opens_in_pycocotools(tmp_path, style):
    pytest.importorskip("pycocotools", reason="extra [coco] is not installed")
    from pycocotools.coco import COCO

    items = [
        Item("sub/ä 1.jpg", label_map()),
        Item("empty.png", np.zeros((5, 7), np.uint8)),
        Item("flip.jpg", label_map()[:, ::-1]),
    ]
    count = write_coco(tmp_path / "out.json", iter(items), NAMES, style=style, components=True)
    coco = COCO(tmp_path / "out.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(NAMES)
    assert len(coco.anns) == count == 2 * 5 and sorted(coco.anns) == list(range(1, count + 1))
    for (name, labels, *_), image in zip(items, coco.loadImgs(sorted(coco.imgs)), strict=True):
        assert (image["file_name"], image["height"], image["width"]) == (name, *labels.shape)
        rebuilt = np.zeros(labels.shape, dtype=int)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            rebuilt += coco.annToMask(annotation).astype(int) * annotation["category_id"]
        np.testing.assert_array_equal(rebuilt, np.where(labels == 255, 0, labels))
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_coco_scores_and_refusals():
    pytest.importorskip("pycocotools", reason="extra [coco] is not installed")
    found = coco_annotations(label_map(), NAMES, scores={"cat": 0.5}, first_id=7, image_id=3)
    assert [(a["id"], a["image_id"], a["category_id"], a.get("score")) for a in found] == [
        (7, 3, 1, 0.5), (8, 3, 3, None), (9, 3, 4, None)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="unknown style 'box'; allowed: rle, polygons"):
        coco_annotations(label_map(), NAMES, style="box")
    with pytest.raises(ValueError, match=r"labels \[4\] have no name; allowed: 0 to 3"):
        coco_annotations(label_map(), NAMES[:3])
    with pytest.raises(ValueError, match="integer array"):
        coco_annotations(label_map().astype(float), NAMES)


def test_a_failing_item_leaves_no_file(tmp_path):
    def items():
        yield Item("a.jpg", label_map())
        raise RuntimeError("disk")

    for write in (write_coco, write_cvat, write_label_studio):
        with pytest.raises(RuntimeError, match="disk"):
            write(tmp_path / "out.bin", items(), NAMES, **({"style": "polygons"} if write is write_coco else {}))
    assert list(tmp_path.iterdir()) == []


def test_255_is_a_class_where_there_are_so_many():
    names = [f"class {i}" for i in range(1, 301)]
    labels = np.full((2, 3), 255, dtype=np.int32)
    labels[1, 1] = 300
    assert [a["category_id"] for a in coco_annotations(labels, names, style="polygons")] == [255, 300]


# ---- YOLO


def read_yolo(text: str, shape: tuple[int, int]) -> np.ndarray:
    """The grammar: lines of a class number and at least three x y pairs, shares of width and height."""
    labels = np.zeros(shape, dtype=int)
    for line in text.splitlines():
        category, *values = line.split(" ")
        points = np.array([float(v) for v in values]).reshape(-1, 2)
        assert len(points) >= 3 and points.min() >= 0 and points.max() <= 1
        corners = points * np.array(shape[::-1])
        np.testing.assert_allclose(corners, np.rint(corners), atol=1e-4)
        labels += fill(np.rint(corners), shape) * (int(category) + 1)
    return labels


@settings(max_examples=60, deadline=None)
@given(maps)
def test_yolo_lines_fill_back(labels):
    np.testing.assert_array_equal(
        read_yolo(yolo_seg(labels, ("a", "b")), labels.shape), np.where(labels == 255, 0, labels)
    )


def test_yolo_folder(tmp_path):
    labels = label_map()
    names = ("ä: b", *NAMES[1:])
    assert write_yolo(tmp_path, [Item("x/a.jpg", labels), Item("b.jpg", labels * 0)], names, split="train") == 2
    text = (tmp_path / "labels" / "train" / "x" / "a.txt").read_text()
    assert len(text.splitlines()) == 5  # cat, dog, three parts of ship; the absent light and 255 have no line
    np.testing.assert_array_equal(read_yolo(text, labels.shape), np.where(labels == 255, 0, labels))
    assert (tmp_path / "labels" / "train" / "b.txt").read_text() == ""
    data = yaml.safe_load((tmp_path / "data.yaml").read_text(encoding="utf-8"))
    assert data["names"] == dict(enumerate(names))
    assert data["train"] == data["val"] == "images/train"
    write_yolo(tmp_path, [Item("c.jpg", labels)], NAMES, split="val")
    data = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert (data["train"], data["val"]) == ("images/train", "images/val")


def test_yolo_splits_and_links_the_pictures(tmp_path):
    labels, places = label_map(), []
    for number in range(40):
        places.append(tmp_path / f"photos/{number % 3}/p{number}.jpg")
        places[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (19, 12)).save(places[-1])
    items = [Item(f"{p.parent.name}/{p.name}", labels, None, None, str(p)) for p in places]
    folder = tmp_path / "yolo"
    for _ in range(2):  # the same split again, nothing left over
        assert write_yolo(folder, items, NAMES, val=0.25) == 40
        found = {use: sorted(p.name for p in (folder / "images" / use).rglob("*.jpg")) for use in ("train", "val")}
        assert len(found["train"]) + len(found["val"]) == 40 and 3 <= len(found["val"]) <= 20
    data = yaml.safe_load((folder / "data.yaml").read_text())
    for use in ("train", "val"):
        assert (folder / data[use]).is_dir() and data[use] == f"images/{use}"
        for picture in (folder / data[use]).rglob("*.jpg"):
            assert Image.open(picture).size == (19, 12)
            text = picture.parent.as_posix().replace("/images/", "/labels/") + f"/{picture.stem}.txt"  # as ultralytics
            assert Path(text).read_text().count("\n") == 5
    assert list_sources(tmp_path, output=None) and len(list_sources(tmp_path)) == 40  # links are no pictures to read
    assert write_yolo(tmp_path / "two", items[:2], NAMES) == 2
    assert [len(list((tmp_path / "two/images" / use).rglob("*.jpg"))) for use in ("train", "val")] == [1, 1]
    with pytest.raises(ValueError, match="allowed: auto, train or val"):
        write_yolo(tmp_path / "no", items, NAMES, split="test")
    assert not (tmp_path / "no").exists()


def distance(points: np.ndarray, polygon: np.ndarray) -> float:
    """The largest distance of points from the outline of a polygon."""
    start, along = polygon, np.roll(polygon, -1, axis=0) - polygon
    length = np.maximum((along**2).sum(1), 1e-12)
    share = np.clip(((points[:, None] - start) * along).sum(2) / length, 0, 1)
    return float(np.linalg.norm(points[:, None] - start - share[..., None] * along, axis=2).min(1).max())


@settings(max_examples=80, deadline=None)
@given(masks, st.sampled_from([0.0, 0.4, 0.5, 1.0, 3.0]))
def test_simplified_outlines_stay_within_the_tolerance(mask, tolerance):
    for polygon in polygons(mask):
        found = simplified(polygon, tolerance)
        assert 3 <= len(found) <= len(polygon) and {*map(tuple, found)} <= {*map(tuple, polygon)}
        assert distance(polygon.astype(float), found.astype(float)) <= tolerance + 1e-9
        x, y = found.T
        assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() != 0
        assert tolerance or np.array_equal(found, polygon)


def test_a_round_thing_needs_fewer_corners():
    y, x = np.mgrid[:200, :200]
    labels = ((x - 100) ** 2 + (y - 90) ** 2 < 80**2).astype(np.uint8)
    exact, short = (yolo_seg(labels, ("ball",), tolerance) for tolerance in (0.0, 0.75))
    assert len(short.split()) < 0.45 * len(exact.split())
    points = np.array(short.split()[1:], float).reshape(-1, 2) * 200
    assert (fill(points, labels.shape) != labels).mean() < 0.01


# ---- VOC


def test_voc_layout_opens_in_torchvision(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    root = tmp_path / "VOCdevkit" / "VOC2012"
    items = [Item("2007_000001.jpg", label_map()), Item("2007_000002.jpg", label_map()[::-1])]
    assert write_voc(root, items, NAMES, split="train") == 2
    (root / "JPEGImages").mkdir()
    for name, labels, *_ in items:
        Image.new("RGB", labels.shape[::-1]).save(root / "JPEGImages" / name)
    opened = datasets.VOCSegmentation(str(tmp_path), year="2012", image_set="train")
    assert len(opened) == 2
    for (_, labels, *_), (picture, target) in zip(items, opened, strict=True):
        assert target.mode == "P" and picture.size == target.size
        np.testing.assert_array_equal(np.asarray(target), labels)
        assert target.getpalette()[3:6] == [128, 0, 0] and target.getpalette()[765:768] == [224, 224, 192]
    assert (root / "class_names.txt").read_text().splitlines() == ["background", *NAMES]


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", ""])
def test_names_stay_inside_the_folder(tmp_path, name):
    for write, place in ((write_voc, tmp_path), (write_yolo, tmp_path), (write_cvat, tmp_path / "a.zip")):
        with pytest.raises(ValueError, match="relative file name"):
            write(place, [Item(name, label_map())], NAMES)


def test_pictures_that_differ_in_the_suffix_only_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"share the file 'a'.*'a\.png'"):
        write_voc(tmp_path, [Item("a.jpg", label_map()), Item("a.png", label_map())], NAMES)


# ---- Label Studio


def decode_brush(data: list[int]) -> np.ndarray:
    """Written from the documented grammar of the run-length packing that Label Studio uses, literal blocks included."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        value = int(bits[place : place + count], 2)
        place += count
        return value

    size, word = take(32), take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < size:
        repeated = take(1)
        length = take(widths[take(2)]) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    assert len(values) == size and set(bits[place:]) <= {"0"} and len(bits) - place < 8
    return np.array(values, dtype=np.uint8)


@settings(max_examples=80, deadline=None)
@given(masks)
def test_brush_round_trip(mask):
    decoded = decode_brush(encode_brush(mask)).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(decoded, np.repeat(mask[..., None] * 255, 4, axis=2))


def test_brush_runs_longer_than_the_widest_field():
    mask = np.zeros((190, 211), dtype=bool)
    mask[3:180] = True  # 177 * 211 * 4 values in one run
    np.testing.assert_array_equal(decode_brush(encode_brush(mask)).reshape(190, 211, 4)[..., 3] > 0, mask)


def test_brush_begins_as_label_studio_writes_it():
    """First bytes of a published Label Studio export of a 3332 x 2527 picture whose first 131072 values are 0."""
    mask = np.zeros((2527, 3332), dtype=bool)
    mask[-1, -1] = True
    assert encode_brush(mask)[:16] == [2, 1, 233, 240, 57, 27, 255, 255, 255, 0, 255, 255, 224, 31, 255, 252]


def test_label_studio_task_and_config(tmp_path):
    labels = label_map()
    task = json.loads(json.dumps(label_studio_task(labels, NAMES, "/data/a.jpg", scores={"cat": 0.9, "ship": 0.25})))
    assert task["data"] == {"image": "/data/a.jpg"}
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.25 and prediction["model_version"]
    rebuilt = np.zeros(labels.shape, dtype=int)
    config = ElementTree.fromstring(label_studio_config(NAMES))
    for region in prediction["result"]:
        assert (region["original_width"], region["original_height"], region["image_rotation"]) == (19, 12, 0)
        assert region["type"] == "brushlabels" and region["value"]["format"] == "rle"
        assert region["from_name"] == config.find("BrushLabels").get("name")
        assert region["to_name"] == config.find("Image").get("name") == config.find("BrushLabels").get("toName")
        (name,) = region["value"]["brushlabels"]
        mask = decode_brush(region["value"]["rle"]).reshape(12, 19, 4)[..., 3] == 255
        rebuilt += mask * (255 if name == "ignore" else NAMES.index(name) + 1)
    np.testing.assert_array_equal(rebuilt, labels)
    assert [r.get("score") for r in prediction["result"]] == [0.9, None, 0.25, None]
    assert len({r["id"] for r in prediction["result"]}) == 4
    assert [tag.get("value") for tag in config.iter("Label")] == [*NAMES, "ignore"]
    assert [tag.get("background") for tag in config.iter("Label")][:2] == ["#800000", "#008000"]

    assert (
        write_label_studio(tmp_path / "t.json", [Item("a.jpg", labels), Item("b.jpg", labels * 0)], NAMES, prefix="s/")
        == 2
    )
    tasks = json.loads((tmp_path / "t.json").read_text())
    assert [t["data"]["image"] for t in tasks] == ["s/a.jpg", "s/b.jpg"] and tasks[1]["predictions"][0]["result"] == []
    assert ElementTree.parse(tmp_path / "t.xml").getroot().tag == "View"
    assert write_label_studio(tmp_path / "none.json", [], NAMES) == 0
    assert json.loads((tmp_path / "none.json").read_text()) == []


# ---- CVAT


def read_cvat(path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The grammar: lines ``label:r,g,b:parts:actions``, ``#`` comments, names in default.txt, masks in the colours."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        lines = archive.read("labelmap.txt").decode().splitlines()
        colours = {}
        for line in lines:
            if not line.startswith("#"):
                name, colour, parts, actions = line.split(":")
                assert (parts, actions) == ("", "")
                colours[tuple(int(v) for v in colour.split(","))] = name
        stems = archive.read("ImageSets/Segmentation/default.txt").decode().split()
        folders = ("SegmentationClass", "SegmentationObject")
        classes, objects = (
            {s: np.asarray(Image.open(io.BytesIO(archive.read(f"{folder}/{s}.png")))) for s in stems}
            for folder in folders
        )
        assert len(archive.namelist()) == 2 + 2 * len(stems)
    named = {
        s: np.array([[colours[tuple(pixel)] for pixel in row] for row in picture.tolist()], dtype=object)
        for s, picture in classes.items()
    }
    return named, objects


def test_cvat_zip(tmp_path):
    labels = label_map()
    assert write_cvat(tmp_path / "out.zip", iter([Item("x/a.jpg", labels), Item("b.png", labels.T)]), NAMES) == 2
    named, objects = read_cvat(tmp_path / "out.zip")
    words = np.array(["background", *NAMES, *["?"] * 250, "ignore"], dtype=object)
    for stem, expected in (("x/a", labels), ("b", labels.T)):
        np.testing.assert_array_equal(named[stem], words[expected])
        flat = objects[stem].reshape(-1, 3)
        black = (flat == 0).all(1)
        np.testing.assert_array_equal(black, expected.reshape(-1) == 0)
        assert len(np.unique(flat[~black], axis=0)) == 6  # cat, dog, three parts of ship, ignored
        for colour in np.unique(flat[~black], axis=0):
            assert len(set(expected.reshape(-1)[(flat == colour).all(1)])) == 1  # one class an object


def test_cvat_names(tmp_path):
    write_cvat(tmp_path / "a.zip", [Item("a.jpg", np.full((2, 3), 255, np.uint8))], ("ignore", "b"))
    assert set(read_cvat(tmp_path / "a.zip")[0]["a"].ravel()) == {"ignore_255"}
    for names in (("a:b",), ("a\nb",), ("a", "a"), ("#a",), ("background",)):
        with pytest.raises(ValueError, match=r"labelmap\.txt cannot hold"):
            write_cvat(tmp_path / "b.zip", [], names)
    assert not (tmp_path / "b.zip").exists()
