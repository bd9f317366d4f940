"""What tools really write: variants that are read, entries that are named and left out, what never becomes a class."""

from __future__ import annotations

import pytest
from label_files import BOX, STUDIO_BOX, annotation, coco, labelme, region, shape, task, voc, voc_object, write

from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.text.vocabulary import parse_classes
from clipseg_ws.weak.collecting import LabelWarning
from clipseg_ws.weak.label_files import read_label_files
from clipseg_ws.weak.marks import lookup_marks, read_marks
from clipseg_ws.weak.tags import lookup_tags, read_tags

TREE = (("tree", 10, 20, 50, 60),)


# ---- LabelMe, X-AnyLabeling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        BOX,
        shape("rectangle", [[50, 20], [10, 60]]),
        shape("rectangle", [[10, 20], [50, 20], [50, 60], [10, 60]]),
        shape("rotation", [[30, 20], [50, 40], [30, 60], [10, 40]]),
    ],
)
def test_labelme_rectangles(tmp_path, given):
    assert read_marks(write(tmp_path / "a.json", labelme(given)))["a"].boxes == TREE


def test_labelme_words_that_are_no_classes(tmp_path):
    shapes = [BOX, BOX | {"label": "__ignore__"}, shape("point", [[3, 4]], "_background_")]
    marks = read_marks(write(tmp_path / "a.json", labelme(*shapes)))
    assert marks["a"].boxes == TREE and marks["a"].points == (("background", 3, 4),) and marks.classes() == ("tree",)
    with pytest.raises(ValueError, match=r"a\.json.*'_background_' is not one of the classes"):
        read_marks(write(tmp_path / "a.json", labelme(BOX | {"label": "_background_"})))


def test_labelme_shapes_that_cannot_be_used_are_named(tmp_path):
    content = labelme(BOX, shape("rectangle", [[1, 2]]), shape("point", []))
    with pytest.warns(LabelWarning, match=r"a\.json, shape 2 \(rectangle of 'tree'\): 1 points.*shape 3 \(point"):
        assert read_marks(write(tmp_path / "a.json", content))["a"].boxes == TREE


# ---- Label Studio ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"from_id": "r1", "to_id": "r2", "type": "relation", "direction": "right"},
        {"id": "r1", "type": "textarea", "value": {"text": ["big one"]}},
        {"id": "x", "type": "rating", "value": {"rating": 3}},
        {"id": "r1", "type": "choices", "value": {"choices": ["broken"]}},
        region(kind="choices", label=("broken",)),
        region(label=()),
        region(label=None),
    ],
)
def test_label_studio_what_is_no_mark_is_counted(tmp_path, more):
    with pytest.warns(LabelWarning, match=r"ls\.json, task 1: 1 x "):
        marks = read_marks(write(tmp_path / "ls.json", [task(region(), more)]))
    assert marks["a"].boxes == STUDIO_BOX and marks["a"].tags is None and marks.classes() == ("tree",)


def test_label_studio_old_and_short_exports(tmp_path):
    old = [{"id": 1, "completions": [{"id": 1, "result": [region()]}], "data": {"image": "a.png"}}]
    value = region()["value"] | {"original_width": 112, "original_height": 112}
    short = [{"id": 1, "image": "a.png", "label": [value]}]
    geometry = region(label=None, kind="rectangle")
    apart = [task(geometry, region(kind="labels"))]
    caption = [{"id": 1, "annotations": [{"result": [region()]}],
                "data": {"caption": "a nice tree", "img": "/data/local-files/?d=a.png"}}]  # fmt: skip
    for content in (old, short, apart, caption):
        assert read_marks(write(tmp_path / "ls.json", content))["a"].boxes == STUDIO_BOX


def test_label_studio_unlabelled_and_unseen(tmp_path):
    predicted = {"id": 2, "annotations": [], "predictions": [{"result": [region()]}], "data": {"image": "b.png"}}
    with pytest.warns(LabelWarning, match="without a label"):
        marks = read_marks(write(tmp_path / "ls.json", [task(region(label=())), predicted]))
    assert "b" not in marks
    with pytest.raises(ValueError, match=r"'a\.png': no entry can be used"):
        lookup_marks(marks, "a.png")


# ---- COCO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, words",
    [
        (annotation(999), "annotation 1: image_id 999 is not among the images"),
        (annotation(category=55), "annotation 1: category_id 55 is not among the categories"),
        (annotation(box=None), r"annotation 1 \(tree\): no bbox"),
        (annotation(box=[]), r"annotation 1 \(tree\): no bbox"),
        (annotation(box=[1, 2, 3]), "3 numbers"),
        (annotation(box=[40, 40, -10, -10]), "negative side"),
        (annotation(box=[float("nan"), 1, 2, 3]), "not finite"),
        (annotation(box="1 2 3 4"), "no numbers"),
    ],
)
def test_coco_entries_that_cannot_be_used_are_named_and_the_rest_goes_on(tmp_path, bad, words):
    file = write(tmp_path / "c.json", coco([bad, annotation()]))
    with pytest.warns(LabelWarning, match=rf"c\.json, {words}|c\.json.*{words}"):
        marks = read_marks(file)
    assert marks["sub/a"].boxes == (("tree", 10, 20, 40, 60),) and marks["b"].tags == ()
    if bad["image_id"] == 7:  # alone, it must not mean that the picture holds nothing
        with pytest.warns(LabelWarning):
            alone = read_marks(write(tmp_path / "c.json", coco([bad])))
        with pytest.raises(ValueError, match=r"sub/a\.png.*no entry can be used"):
            lookup_marks(alone, "sub/a.png")


def test_coco_boxes_around_segmentations(tmp_path):
    polygon = annotation(box=None, segmentation=[[10, 20, 40, 20, 40, 60, 10, 60]])
    counts = annotation(
        box=None, segmentation={"size": [112, 112], "counts": [112 * 10 + 20, 40, 72, 40, 12544 - 1292]}
    )
    for given, wanted in ((polygon, (10, 20, 40, 60)), (counts, (10, 20, 12, 60))):
        assert read_marks(write(tmp_path / "c.json", coco([given])))["sub/a"].boxes == (("tree", *wanted),)


def test_coco_ids_as_text_keypoints_and_panoptic(tmp_path):
    keypoints = annotation(keypoints=[1, 1, 2], num_keypoints=1)
    panoptic = {"image_id": 7, "file_name": "a.png", "segments_info": [annotation(box=[10, 20, 30, 40])]}
    panoptic["segments_info"][0].pop("image_id")
    for given in (annotation("7"), annotation(7.0), keypoints, panoptic):
        file = write(tmp_path / "c.json", coco([given]))
        assert read_marks(file)["sub/a"].boxes == (("tree", 10, 20, 40, 60),) and read_tags(file)["sub/a"] == ("tree",)


def test_coco_files_of_another_kind_are_called_by_their_name(tmp_path):
    results = [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.9}]
    captions = {"images": [], "annotations": [{"image_id": 7, "id": 1, "caption": "a tree"}]}
    for content, words in ((results, "COCO result list"), (captions, "COCO captions")):
        for read in (read_marks, read_tags):
            with pytest.raises(ValueError, match=rf"c\.json.*{words}"):
                read(write(tmp_path / "c.json", content))


# ---- VOC and CVAT XML ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding, head, name",
    [
        ("utf-8", "", "tree"),
        ("utf-8-sig", "", "树"),
        ("utf-16", '<?xml version="1.0" encoding="utf-16"?>', "树"),
        ("utf-16", "", "tree"),
        ("gb2312", '<?xml version="1.0" encoding="gb2312"?>', "树"),
        ("cp1252", "<?xml version='1.0' encoding='windows-1252'?>\n", "Bär"),
        ("utf-8", "", "\n  tree\n"),
    ],
)
def test_voc_encodings(tmp_path, encoding, head, name):
    file = write(tmp_path / "a.xml", head + voc(voc_object(11, 21, 50, 60, name)), encoding)
    assert read_marks(file)["a"].boxes == ((name.strip(), 10, 20, 50, 60),) and read_tags(file)["a"] == (name.strip(),)


def test_voc_numbers_and_objects_without_a_box(tmp_path):
    assert read_marks(write(tmp_path / "a.xml", voc(voc_object(50, 60, 11, 21))))["a"].boxes == TREE  # corners swapped
    shape_ = "<cx>30</cx><cy>40</cy><w>10</w><h>20</h><angle>0</angle>"
    turned = f"<object><name>tree</name><robndbox>{shape_}</robndbox></object>"
    assert read_marks(write(tmp_path / "a.xml", voc(turned)))["a"].boxes == (("tree", 25, 30, 35, 50),)
    bare = "<object><name>cow</name><polygon><x1>1</x1><y1>1</y1></polygon></object>"
    with pytest.warns(LabelWarning, match=r"a\.xml, object 1 \(cow\): its bndbox has \[None"):
        assert read_marks(write(tmp_path / "a.xml", voc(bare, voc_object(11, 21, 50, 60))))["a"].boxes == TREE


def test_cvat_for_images(tmp_path):
    content = """<annotations><version>1.1</version><meta/>
      <image id="0" name="x/a.png" width="112" height="112">
        <box label="tree" xtl="10" ytl="20" xbr="50" ybr="60" occluded="0"><attribute name="age">3</attribute></box>
        <points label="mushroom" points="3,4;5.5,6"/><polygon label="tree" points="1,2;9,2;9,8"/>
        <box label="tree" xtl="10" ytl="30" xbr="50" ybr="50" rotation="90"/><box label="bad" xtl="1"/>
      </image>
      <image id="1" name="b.png" width="112" height="112"><tag label="cow"/></image>
      <image id="2" name="c.png" width="112" height="112"/></annotations>"""
    file = write(tmp_path / "annotations.xml", content)
    with pytest.warns(LabelWarning, match=r"image 0, shape 5 \(box 'bad'\)"):
        marks = read_marks(file)
    assert marks["x/a"].boxes == (*TREE, ("tree", 1, 2, 9, 8), ("tree", 20, 20, 40, 60))
    assert marks["x/a"].points == (("mushroom", 3, 4), ("mushroom", 5.5, 6))
    assert marks["b"].tags == ("cow",) and marks["c"].tags == ()
    assert read_tags(write(tmp_path / "t.xml", content.replace('<box label="bad" xtl="1"/>', "")))["b"] == ("cow",)
    video = '<annotations><track id="0" label="tree"/></annotations>'
    for read in (read_marks, read_tags):
        with pytest.raises(ValueError, match=r"video export \(tracks\)"):
            read(write(tmp_path / "v.xml", video))
        with pytest.raises(ValueError, match=r"XML <html>.*CVAT XML"):
            read(write(tmp_path / "h.xml", "<html><body/></html>"))


# ---- tables of tags --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("sign, first", [(",", ""), (";", ""), ("\t", ""), (",", "sep=,"), (";", "sep=;")])
def test_tables_as_programs_save_them(tmp_path, encoding, end, sign, first):
    rows = [*([first] if first else []), f"image{sign}tags", f"a.jpg{sign}cat|dog", f'"b.jpg"{sign}cow']
    assert read_tags(write(tmp_path / "t.csv", end.join([*rows, ""]), encoding)) == {"a": ("cat", "dog"), "b": ("cow",)}


@pytest.mark.parametrize(
    "heading",
    ["path,category", "id,species", "ImageID,LabelName", "img_path,label", "filename,label,confidence", ",image,tags",
     ",path,species", "file_name,class_name"],
)  # fmt: skip
def test_known_headings(tmp_path, heading):
    columns = heading.split(",")
    image = 1 if columns[0] == "" else 0
    other = {"confidence": "0.9", "": "7"}
    rows = [
        ",".join(other.get(column, name if i == image else tag) for i, column in enumerate(columns))
        for name, tag in (("a.jpg", "cat"), ("b.jpg", "dog"))
    ]
    assert read_tags(write(tmp_path / "t.csv", "\n".join([heading, *rows]))) == {"a": ("cat",), "b": ("dog",)}


def test_a_first_row_that_names_no_picture_is_a_heading(tmp_path):
    with pytest.raises(ValueError, match=r"t\.csv.*line 1: 'Foto,Art' names no picture"):
        read_tags(write(tmp_path / "t.csv", "Foto,Art\na.jpg,cat\n"))
    write(tmp_path / "p/0a1.png", "")
    write(tmp_path / "p/0a2.png", "")
    write(tmp_path / "t.csv", "Foto,Art\n0a1,cat\n0a2,cat\n")  # no name has a suffix: the pictures tell
    with pytest.raises(ValueError, match=r"first row names no picture: Foto,Art"):
        read_label_files(str(tmp_path / "t.csv"), [], list_sources(tmp_path / "p"))
    write(tmp_path / "t.csv", "0a3,cat\n0a1,cat\n0a2,cat\n")  # a picture that is not here is no heading
    assert read_label_files(str(tmp_path / "t.csv"), [], list_sources(tmp_path / "p")).names() == ["cat"]


@pytest.mark.parametrize(
    "row, words",
    [
        ("a.jpg,cat,0.93", "line 2.*'0.93' is a number"),
        ("a.jpg,7", "'7' is a number"),
        ("a.jpg,nan", "'nan' is a number"),
        ("a.jpg,none", "'none' is no class"),
        ('a.jpg,"cat, dog"', "line 2.*'cat, dog' holds a comma"),
    ],
)
def test_what_is_no_class_is_refused_with_file_and_row(tmp_path, row, words):
    with pytest.raises(ValueError, match=rf"t\.csv.*{words}"):
        read_tags(write(tmp_path / "t.csv", f"b.jpg,cow\n{row}\n"))
    with pytest.raises(ValueError, match=r"t\.json.*key 1.*'0\.5' is a number"):
        read_tags(write(tmp_path / "t.json", {"a.jpg": ["0.5"]}))


def test_numbers_that_were_asked_for_are_classes(tmp_path):
    assert read_tags(write(tmp_path / "t.csv", "a.jpg,7\n"), ["7", "8"]) == {"a": ("7",)}


def test_background_and_spellings(tmp_path):
    assert read_tags(write(tmp_path / "t.csv", "a.jpg,background;tree\nb.jpg,_background_\n")) == {
        "a": ("tree",),
        "b": (),
    }
    for word in ("dining  table", "dining\u00a0table", "Dining_Table", "diningtable", "dining-table"):
        assert read_tags(write(tmp_path / "t.csv", f"a.jpg,{word}\n"), ["dining table"]) == {"a": ("dining table",)}
    assert read_tags(tmp_path / "t.csv", parse_classes("voc")) == {"a": ("diningtable",)}
    nfd = "cafe\u0301"
    assert read_tags(write(tmp_path / "t.csv", f"a.jpg,{nfd}\nb.jpg,café\n")) == {"a": ("café",), "b": ("café",)}
    assert read_tags(write(tmp_path / "t.csv", f"a.jpg,{nfd}\n"), ["café"]) == {"a": ("café",)}
    assert lookup_tags(read_tags(tmp_path / "t.csv"), "a.jpg") == ("café",)


def test_scribbles_without_names_ask_for_them(tmp_path):
    import numpy as np
    from PIL import Image

    (tmp_path / "s").mkdir()
    for folder in ("s", "p"):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / folder / "a.png")
    sources = list_sources(tmp_path / "p")
    with pytest.raises(ValueError, match=r"numbers, not names; pass the classes \(-c\)"):
        read_label_files(None, [tmp_path / "s"], sources)
    assert read_label_files(None, [tmp_path / "s"], sources, ["cat"]).labels(sources[0]).scribbles.all()
