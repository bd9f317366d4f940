"""Tags and marks of a command line, joined by picture."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest

from clipseg_ws.pictures.sources import Source
from clipseg_ws.weak.label_files import read_label_files


def test_tags_and_marks_are_joined(tmp_path):
    sources = [Source(f"photos/p{i:03d}.png", PurePosixPath(f"p{i:03d}")) for i in range(3)]
    (tmp_path / "tags.csv").write_text("image,tags\np000.png,cat;dog\np001.png,dog\n")
    images = [{"id": 1, "file_name": "p000.png"}]
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    labels = read_label_files(str(tmp_path / "tags.csv"), [tmp_path / "boxes.json"], sources)
    assert labels.names() == ["cat", "dog"]
    both = labels.labels(sources[0])
    assert both.tags == ("cat", "dog") and both.boxes == (("cat", 1, 2, 4, 6),)
    assert labels.labels(sources[1]).tags == ("dog",)
    with pytest.raises(ValueError, match="no entry"):
        labels.labels(sources[2])
    labels = read_label_files("cat; cow", [], sources)
    assert labels.names() == ["cat", "cow"] and labels.labels(sources[2]).tags == ("cat", "cow")
    with pytest.raises(ValueError, match="no weak labels"):
        read_label_files(None, [], sources)
    with pytest.raises(FileNotFoundError, match=r"tags\.cvs"):
        read_label_files("tags.cvs", [], sources)
    assert read_label_files("CAT", [], sources, ("cat", "dog")).tags(sources[0]) == ("cat",)
    with pytest.raises(ValueError, match="tag 'cow' is not one of the classes; allowed: cat, dog"):
        read_label_files("cat; cow", [], sources, ("cat", "dog"))
    listed = read_label_files(str(tmp_path / "tags.csv"), [], sources)
    with pytest.raises(ValueError, match=r"p002\.png has no entry in the tags"):
        listed.tags(sources[2])
