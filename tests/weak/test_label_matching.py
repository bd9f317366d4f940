"""A label belongs to exactly one picture: folders, twins, suffixes, imagePath, hashes, encodings of names."""

from __future__ import annotations

import unicodedata

import pytest
from label_files import BOX, annotation, coco, labelme, picture, region, task, voc, voc_object, write

from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.weak.label_files import read_label_files
from clipseg_ws.weak.marks import lookup_marks, read_marks
from clipseg_ws.weak.tags import lookup_tags, read_tags


def tags_of(tmp_path, rows: str, *pictures: str) -> dict[str, tuple[str, ...] | None]:
    """Picture -> its tags, None for a picture without entry."""
    for name in pictures:
        picture(tmp_path / "photos" / name)
    sources = list_sources(tmp_path / "photos")
    labels = read_label_files(str(write(tmp_path / "t.csv", "image,tags\n" + rows)), [], sources)
    found = {}
    for source in sources:
        name = source.location[len(str(tmp_path / "photos")) + 1 :]
        try:
            found[name] = labels.tags(source)
        except ValueError as error:
            assert "has no entry" in str(error)
            found[name] = None
    return found


def test_an_entry_with_a_folder_fits_only_that_folder(tmp_path):
    assert tags_of(tmp_path, "a/1.png,tree\n", "a/1.png", "b/1.png") == {"a/1.png": ("tree",), "b/1.png": None}
    assert tags_of(tmp_path, "photos/b/1.png,cow\n") == {"a/1.png": None, "b/1.png": ("cow",)}
    assert lookup_tags(read_tags(tmp_path / "t.csv"), tmp_path / "photos/a/1.png") is None  # one at a time too


@pytest.mark.parametrize("entry", ["1.png", "1"])
def test_twins_in_two_folders_are_ambiguous(tmp_path, entry):
    with pytest.raises(ValueError, match=r"'1(\.png)?' fits several pictures: .*a/1\.png', .*b/1\.png'"):
        tags_of(tmp_path, f"{entry},tree\n", "a/1.png", "b/1.png")


def test_pictures_that_differ_in_the_suffix_only(tmp_path):
    assert tags_of(tmp_path, "a.png,tree\n", "a.jpg", "a.png") == {"a.jpg": None, "a.png": ("tree",)}
    assert tags_of(tmp_path, "a.jpg,cow\na.png,tree\n") == {"a.jpg": ("cow",), "a.png": ("tree",)}
    with pytest.raises(ValueError, match=r"'a' fits several pictures"):
        tags_of(tmp_path, "a,tree\n")


def test_two_entries_for_one_picture(tmp_path):
    with pytest.raises(ValueError, match=r"a\.webp' fits several entries: 'a\.bmp', 'a\.tif'"):
        tags_of(tmp_path, "a.bmp,tree\na.tif,cow\n", "a.webp")


@pytest.mark.parametrize(
    "entry, name",
    [
        ("a.PNG", "a.png"),
        ("a.png", "a.PNG"),
        ("cam1.frame.001", "cam1.frame.001.jpg"),
        ("cam1.frame.001.jpg", "cam1.frame.001.jpg"),
        ("my photo (1).jpg", "my photo (1).jpg"),
        ("photo.png", "photo.png.png"),
        ("IMG_1.jpg", "img_1.jpg"),
        (unicodedata.normalize("NFC", "café.png"), unicodedata.normalize("NFD", "café.png")),
        (unicodedata.normalize("NFD", "café.png"), unicodedata.normalize("NFC", "café.png")),
        ("x\\a.png", "x/a.png"),
        ("./x/a.png", "x/a.png"),
        ("C:\\data\\x\\a.png", "x/a.png"),
        ("/mnt/other/x/a.png", "x/a.png"),
        ("1a2b3c4d-a.png", "a.png"),
        ("1a2b3c4d-my_photo_1.png", "my photo 1.png"),
        ("a_jpg.rf.0123abcd0123abcd.jpg", "a.jpg"),
        ("https://example.org/files/a%20b.png?x=1", "a b.png"),
    ],
)
def test_names_that_mean_the_same(tmp_path, entry, name):
    assert tags_of(tmp_path, f"{entry},tree\n", name, "other.gif")[name] == ("tree",)


@pytest.mark.parametrize("entry", ["/mnt/train/a.png", "train/a.png", "C:\\train\\a.png", "b.png", "20240101-a.png"])
def test_names_that_mean_another_picture(tmp_path, entry):
    assert tags_of(tmp_path, f"{entry},tree\nz.png,cow\n", "val/a.png", "z.png")["val/a.png"] is None


def test_a_hash_counts_only_where_one_picture_fits(tmp_path):
    for name in ("x/a.png", "y/a.png"):
        picture(tmp_path / "photos" / name)
    marks = read_marks(write(tmp_path / "ls.json", [task(region(), image="/data/upload/1/8e5f0b1c-a.png")]))
    with pytest.raises(ValueError, match="fits several pictures"):
        read_label_files(None, [tmp_path / "ls.json"], list_sources(tmp_path / "photos"))
    assert lookup_marks(marks, tmp_path / "photos/x/a.png").boxes


def test_files_that_fit_nothing_say_so_with_names_of_both_sides(tmp_path):
    said = r"none of its 4 entries fits one of the 1 pictures; it names 'w\.png', 'x\.png', 'y\.png', … \(4\)"
    with pytest.raises(ValueError, match=rf"{said}; the pictures are '.*a\.png'"):
        tags_of(tmp_path, "w.png,t\nx.png,t\ny.png,t\nz.png,t\n", "a.png")


def test_what_is_left_on_both_sides_is_counted(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "photos" / name)
    table = write(tmp_path / "t.csv", "image,tags\na.png,tree\nq.png,cow\n")
    report = read_label_files(str(table), [], list_sources(tmp_path / "photos")).report
    assert len(report) == 2 and "1 entries fit no picture: 'q'" in report[0]
    assert report[1].startswith("2 of 3 pictures have no entry: ") and "b.png" in report[1]


def test_image_path_of_labelme_decides(tmp_path):
    for name in ("a.png", "b.png", "photo_7.png"):
        picture(tmp_path / "images" / name)
    write(tmp_path / "ann/a.json", labelme(BOX, image="b.png"))
    write(tmp_path / "ann/ann_0001.json", labelme(BOX, image="..\\images\\photo_7.png"))
    marks = read_marks(tmp_path / "ann")
    assert lookup_marks(marks, tmp_path / "images/a.png") is None
    assert lookup_marks(marks, tmp_path / "images/b.png").boxes == (("tree", 10, 20, 50, 60),)
    assert lookup_marks(marks, tmp_path / "images/photo_7.png").boxes


def test_label_files_in_a_tree_of_their_own(tmp_path):
    for name in ("x/1.png", "y/1.png"):
        picture(tmp_path / "photos" / name)
        write(
            tmp_path / "ann" / name.replace(".png", ".xml"), voc(voc_object(11, 21, 50, 60, name[0]), filename="1.png")
        )
        write(tmp_path / "lm" / name.replace(".png", ".json"), labelme(BOX | {"label": name[0]}, image="1.png"))
    for folder in ("ann", "lm"):
        marks = read_marks(tmp_path / folder)
        for name in "xy":
            assert lookup_marks(marks, tmp_path / f"photos/{name}/1.png").boxes == ((name, 10, 20, 50, 60),)
    (tmp_path / "ann/y/1.xml").unlink()
    labels = read_label_files(None, [tmp_path / "ann"], list_sources(tmp_path / "photos"))
    with pytest.raises(ValueError, match="no entry"):
        labels.labels(list_sources(tmp_path / "photos")[1])


def test_annotations_beside_their_own_folder_of_pictures(tmp_path):
    picture(tmp_path / "VOC/JPEGImages/a.jpg")
    write(tmp_path / "VOC/Annotations/a.xml", voc(voc_object(11, 21, 50, 60), filename="a.jpg"))
    assert lookup_marks(read_marks(tmp_path / "VOC"), tmp_path / "VOC/JPEGImages/a.jpg").boxes


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_json_and_xml_beside_the_pictures(tmp_path, suffix):
    picture(tmp_path / f"p/a{suffix}")
    write(tmp_path / "p/a.json", labelme(BOX, image=f"a{suffix}"))
    assert read_marks(tmp_path / "p")["a"].boxes == (("tree", 10, 20, 50, 60),)
    (tmp_path / "p/a.json").unlink()
    write(tmp_path / "p/a.xml", voc(voc_object(11, 21, 50, 60)))
    assert read_marks(tmp_path / "p")["a"].boxes and read_tags(tmp_path / "p")["a"] == ("tree",)


def test_filename_of_voc_counts_where_the_file_has_another_name(tmp_path):
    picture(tmp_path / "p/photo7.jpg")
    write(tmp_path / "x/ann_1.xml", voc(voc_object(11, 21, 50, 60), filename="photo7.jpg"))
    assert lookup_marks(read_marks(tmp_path / "x"), tmp_path / "p/photo7.jpg").boxes
    picture(tmp_path / "p/ann_1.jpg")  # now the file's name and its filename are two pictures
    with pytest.raises(ValueError, match=r"fits several pictures: .*ann_1\.jpg', .*photo7\.jpg'"):
        read_label_files(None, [tmp_path / "x"], list_sources(tmp_path / "p"))


def test_coco_twins_stay_apart(tmp_path):
    images = [("a.jpg", 112, 112), ("a.png", 112, 112), ("x/1.png", 112, 112), ("y/1.png", 112, 112)]
    boxes = [annotation(7), annotation(8, 90), annotation(9), annotation(10, 90)]
    file = write(tmp_path / "c.json", coco(boxes, images))
    marks, tags = read_marks(file), read_tags(file)
    for name, label in (("a.jpg", "tree"), ("a.png", "mushroom"), ("x/1.png", "tree"), ("y/1.png", "mushroom")):
        path = picture(tmp_path / "p" / name)
        assert lookup_marks(marks, path).boxes == ((label, 10, 20, 40, 60),) and lookup_tags(tags, path) == (label,)
