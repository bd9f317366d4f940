"""A label belongs to a place: files that were made for the picture in another size, or as it is stored."""

from __future__ import annotations

import numpy as np
import pytest
from label_files import annotation, coco, labelme, picture, region, shape, task, voc, voc_object, write
from PIL import Image

from clipseg_ws.weak.marks import lookup_marks, read_marks

CVAT = (
    '<annotations><image id="0" name="a.png" width="{w}" height="{h}">'
    '<box label="tree" xtl="{0}" ytl="{1}" xbr="{2}" ybr="{3}"/></image></annotations>'
)


def files(tmp_path, box, size):
    """The same box in every format that states the picture's size (width, height)."""
    x0, y0, x1, y1 = box
    rectangle = shape("rectangle", [[x0, y0], [x1, y1]])
    percent = {"x": x0 * 100 / size[0], "y": y0 * 100 / size[1]}
    percent |= {"width": (x1 - x0) * 100 / size[0], "height": (y1 - y0) * 100 / size[1]}
    studio = region(**percent) | {"original_width": size[0], "original_height": size[1]}
    return {
        "coco": write(tmp_path / "c.json", coco([annotation(box=[x0, y0, x1 - x0, y1 - y0])], [("a.png", *size)])),
        "labelme": write(tmp_path / "lm/a.json", labelme(rectangle, size=size)),
        "voc": write(tmp_path / "voc/a.xml", voc(voc_object(x0 + 1, y0 + 1, x1, y1), size=size)),
        "cvat": write(tmp_path / "cvat.xml", CVAT.format(*box, w=size[0], h=size[1])),
        "label-studio": write(tmp_path / "ls.json", [task(studio)]),
    }


@pytest.mark.parametrize("form", ["coco", "labelme", "voc", "cvat", "label-studio"])
@pytest.mark.parametrize(
    "size, wanted",
    [((224, 160), (20, 40, 60, 80)), ((112, 80), (10, 20, 30, 40)), ((448, 320), (40, 80, 120, 160))],
)
def test_the_same_picture_in_another_size(tmp_path, form, size, wanted):
    place = picture(tmp_path / "p/a.png", size)
    marks = read_marks(files(tmp_path, (20, 40, 60, 80), (224, 160))[form])
    assert lookup_marks(marks, place).boxes == (("tree", *wanted),)


@pytest.mark.parametrize("form", ["coco", "labelme", "voc", "cvat", "label-studio"])
def test_a_picture_of_another_aspect_is_refused_with_both_sizes(tmp_path, form):
    place = picture(tmp_path / "p/a.png", (200, 200))
    marks = read_marks(files(tmp_path, (20, 40, 60, 80), (224, 160))[form])
    with pytest.raises(ValueError, match=r"a\.png.* 224x160 pixels, this one has 200x200"):
        lookup_marks(marks, place)


def test_scaling_is_said_once(tmp_path):
    images = [(f"{i}.png", 224, 224) for i in range(3)]
    marks = read_marks(write(tmp_path / "c.json", coco([annotation(7 + i) for i in range(3)], images)))
    with pytest.warns(UserWarning, match="scaled from 224x224 to 112x112") as said:
        for i in range(3):
            assert lookup_marks(marks, picture(tmp_path / f"p/{i}.png")).boxes == (("tree", 5, 10, 20, 30),)
    assert len(said) == 1 and marks.placed == {"scaled": 3}


def test_rounded_sizes_are_the_same_aspect(tmp_path):
    place = picture(tmp_path / "p/a.png", (500, 334))
    assert lookup_marks(read_marks(files(tmp_path, (10, 20, 60, 80), (1500, 1001))["coco"]), place).boxes
    with pytest.raises(ValueError, match="1500x1100 pixels, this one has 500x334"):
        lookup_marks(read_marks(files(tmp_path, (10, 20, 60, 80), (1500, 1100))["coco"]), place)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("factor", [1, 2])
def test_labels_of_the_stored_frame_are_turned_as_exif_says(tmp_path, orientation, factor):
    """A white rectangle is painted where the label lies; upright, both must lie in the same place."""
    stored = np.zeros((40, 80, 3), np.uint8)
    stored[10:20, 50:76] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "p").mkdir()
    Image.fromarray(stored).save(tmp_path / "p/a.png", exif=exif)
    from clipseg_ws.pictures.reading import read_image

    upright = np.asarray(read_image(tmp_path / "p/a.png"))[..., 0]
    rows, columns = np.nonzero(upright)
    wanted = tuple(int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    box = tuple(v * factor for v in (50, 10, 76, 20))
    marks = read_marks(files(tmp_path, box, (80 * factor, 40 * factor))["coco"])
    if orientation in (1, 5, 6, 7, 8):  # of the others stored and upright frame have one size: taken as upright
        assert lookup_marks(marks, tmp_path / "p/a.png").boxes == (("tree", *wanted),)
    upright_box = read_marks(files(tmp_path, wanted, upright.shape[::-1])["coco"])
    assert lookup_marks(upright_box, tmp_path / "p/a.png").boxes == (("tree", *wanted),)


def test_percent_without_a_size_and_lines_without_a_size(tmp_path):
    place = picture(tmp_path / "p/a.png", (200, 50))
    bare = {
        "id": 4,
        "image": "a.png",
        "label": [{"x": 10, "y": 20, "width": 30, "height": 40, "rectanglelabels": ["tree"]}],
    }
    marks = read_marks(write(tmp_path / "min.json", [bare]))
    assert lookup_marks(marks, place).boxes == (("tree", 20, 10, 80, 30),)
    line = labelme(shape("linestrip", [[10, 20], [50, 20]]), size=None)
    drawn = lookup_marks(read_marks(write(tmp_path / "lm/a.json", line), ["tree"]), place).scribbles
    assert drawn.shape == (50, 200) and drawn[20, 30] == 1 and drawn[40, 30] == 255


def test_lines_are_scaled_before_they_are_drawn(tmp_path):
    place = picture(tmp_path / "p/a.png", (56, 56))
    marks = read_marks(write(tmp_path / "lm/a.json", labelme(shape("line", [[10, 20], [100, 20]]))), ["tree"])
    drawn = lookup_marks(marks, place).scribbles
    assert drawn.shape == (56, 56) and drawn[10, 40] == 1 and drawn[20, 40] == 255


def test_a_box_outside_the_picture_names_its_file(tmp_path):
    place = picture(tmp_path / "p/a.png")
    marks = read_marks(write(tmp_path / "x/a.xml", voc(voc_object(131, 141, 150, 160))))
    with pytest.raises(ValueError, match=r"a\.xml.*lies outside the picture of 112x112"):
        lookup_marks(marks, place)
