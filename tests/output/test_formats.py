"""The contract of every output format, over the registry: written whole, where it says, found again, nothing else."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import registry
from clipseg_ws.files import TEMPORARY
from clipseg_ws.output import datasets
from clipseg_ws.output.datasets import write_datasets, written
from clipseg_ws.output.formats import FORMATS, dataset_formats, find_format, names_of, picture_formats, split_formats
from clipseg_ws.output.save import is_done, output_paths
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.pictures.written import FOLDER_ENDINGS, OUTPUT_ENDINGS
from clipseg_ws.registry import Entry

PICTURE, DATASET = names_of("picture"), names_of("dataset")
NAMES = ("cat", "traffic light", "dog & co.", "ship/boat")  # no light in any picture
MANY = tuple(f"class {i}" for i in range(1, 301))
PLACES = ("a b.c", "trip/ä.1")


def results(names: tuple[str, ...] = NAMES) -> list[Segmentation]:
    """Two of different sizes, h != w; the first with ignored pixels, the second without any class."""
    many = len(names) >= 255
    first = np.zeros((12, 19), np.int32 if many else np.uint8)
    first[1:8, 1:9], first[2:4, 2:5], first[5:7, 4:8] = 1, 0, 3
    first[9:, 15:], first[9:12, :3] = (300 if many else 4), 255
    made = []
    for labels in (first, np.zeros((7, 5), first.dtype)):
        picture = Image.fromarray(np.arange(labels.size * 3, dtype=np.uint8).reshape(*labels.shape, 3))
        confidence = np.linspace(0, 1, labels.size, dtype=np.float32).reshape(labels.shape)
        made.append(Segmentation(labels, names, {names[0]: 0.75}, confidence, image=picture, source="/photos/x.jpg"))
    return made


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def photos(folder: Path) -> list:
    """Two pictures under the names of PLACES."""
    for place, result in zip(PLACES, results(), strict=True):
        path = folder / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        result.image.save(path)
    return list_sources(folder)


def put(folder: Path, names: tuple[str, ...] = NAMES, formats: tuple[str, ...] = ("png",)) -> list:
    """The results' files and what ``written`` finds of them."""
    from clipseg_ws.output.save import save

    sources = photos(folder.parent / "photos")
    for source, result in zip(sources, results(names), strict=True):
        save(result, folder, formats, relative=source.relative)
    return written(sources, folder, formats)


# --- entries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_an_entry_says_what_its_writer_does(name):
    entry = FORMATS[name]
    assert entry.summary and not entry.summary.endswith(".") and "\n" not in entry.summary
    assert entry.about["scope"] in ("picture", "dataset") and entry.about["file"]
    assert entry.home.startswith("clipseg_ws.output.formats.")
    given = inspect.signature(entry.load()).parameters.values()
    keywords = {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY}
    assert keywords == entry.parameters
    first = ["result", "path", "files"] if entry.about["scope"] == "picture" else ["items", "names"]
    assert [p.name for p in given if p.kind is not p.KEYWORD_ONLY][-len(first) :] == first


def test_results_are_kept_apart():
    files = [entry.about["file"] for entry in FORMATS.values()]
    assert len(set(files)) == len(files)
    endings = {FORMATS[name].about["file"].split(".")[0].rstrip("/") for name in PICTURE} - {""}
    folders = {FORMATS[name].about["file"].rstrip("/") for name in PICTURE if FORMATS[name].about["file"][-1] == "/"}
    assert endings == set(OUTPUT_ENDINGS), "write what stands between stem and dot into pictures.written.OUTPUT_ENDINGS"
    assert folders == set(FOLDER_ENDINGS)


def test_the_registry_is_light():
    code = "import sys, clipseg_ws.output.formats, clipseg_ws.output.segmentation; "
    code += "print(sorted({'torch', 'numpy', 'PIL', 'pandas', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURE)
@pytest.mark.parametrize("names", [NAMES, MANY], ids=["4 classes", "300 classes"])
def test_a_picture_format_is_written_and_found(tmp_path, name, names):
    FORMATS[name].check_installed()
    for place, result in zip(PLACES, results(names), strict=True):
        stem, folder = Path(place).name, tmp_path / Path(place).parent
        assert not is_done(tmp_path, place, (name,))
        paths = result.save(folder, (name,), stem)
        assert paths == output_paths(tmp_path, place, (name,)) and all(path.exists() for path in paths)
        assert is_done(tmp_path, place, (name,))
        before = tree(tmp_path)
        assert result.save(folder, name, stem) == paths and tree(tmp_path) == before  # again: the same, in its place
    kept = {path for place in PLACES for path in output_paths(tmp_path, place, (name,))}
    assert all({p, *p.parents} & kept for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", PICTURE)
def test_a_picture_format_is_never_seen_half(tmp_path, name, monkeypatch):
    before, after = results()[1], results()[0]
    before.save(tmp_path, (name,), "a")
    old = tree(tmp_path)

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(OSError, match="disk full"):
        after.save(tmp_path, (name,), "a")
    with pytest.raises(OSError, match="disk full"):
        after.save(tmp_path, (name,), "new")
    assert tree(tmp_path) == old and len(list(tmp_path.iterdir())) == 1


def test_all_formats_of_a_picture_together(tmp_path):
    paths = results()[0].save(tmp_path, PICTURE, "a b.c")
    assert [path.name for path in paths] == [f"a b.c{FORMATS[name].about['file'].rstrip('/')}" for name in PICTURE]
    listed = json.loads((tmp_path / "a b.c.json").read_text())["files"]
    assert listed == [path.name for path in paths if path.suffix != ".json" or "_" in path.name]
    assert all((tmp_path / name).exists() for name in listed)
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(TEMPORARY)]


# --- data sets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASET)
@pytest.mark.parametrize("names", [NAMES, MANY], ids=["4 classes", "300 classes"])
def test_a_dataset_format_is_made_from_what_is_on_disk(tmp_path, name, names):
    entries = put(tmp_path / "out", names)
    assert [entry.name for entry in entries] == ["a b.c.png", "trip/ä.1.png"]
    (path,) = write_datasets((name,), tmp_path / "set", names, entries)
    assert path == tmp_path / "set" / FORMATS[name].about["file"].rstrip("/") and path.exists()
    before = tree(tmp_path)
    assert not [file for file in before if TEMPORARY in file]
    assert write_datasets(name, tmp_path / "set", names, entries) == [path]
    assert set(tree(tmp_path)) == set(before)
    with pytest.raises(ValueError, match="no name"):
        write_datasets((name,), tmp_path / "fewer", names[:2], entries)
    assert not (tmp_path / "fewer" / FORMATS[name].about["file"]).is_file()


@pytest.mark.parametrize("name", DATASET)
def test_a_dataset_format_takes_pictures_one_by_one(tmp_path, name, monkeypatch):
    entries, alive = put(tmp_path / "out"), []

    def read(path):
        assert sum(reference() is not None for reference in alive) <= 1, "more than the last picture is kept"
        labels = np.array(Image.open(path))
        alive.append(weakref.ref(labels))
        return labels

    monkeypatch.setattr(datasets, "read_label_png", read)
    write_datasets((name,), tmp_path / "set", NAMES, entries)
    assert len(alive) == 2


@pytest.mark.parametrize("name", DATASET)
def test_a_dataset_format_is_never_seen_half(tmp_path, name, monkeypatch):
    entries = put(tmp_path / "out")

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_datasets((name,), tmp_path / "set", NAMES, entries)
    assert tree(tmp_path / "set") == {}


@pytest.mark.parametrize("name", DATASET)
def test_a_dataset_format_is_no_format_of_a_picture(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name} is one result for a whole folder.*write_datasets"):
        results()[0].save(tmp_path, ("png", name))
    assert not list(tmp_path.iterdir())


def test_only_complete_pictures_count(tmp_path):
    entries = put(tmp_path / "out", formats=("png", "overlay"))
    assert len(entries) == 2 and entries[0].location.endswith("a b.c.png")
    (tmp_path / "out" / "a b.c_overlay.png").unlink()
    sources = list_sources(tmp_path / "photos")
    assert [e.name for e in written(sources, tmp_path / "out", ("png", "overlay"))] == ["trip/ä.1.png"]
    assert len(written(sources, tmp_path / "out")) == 2
    (tmp_path / "out" / "a b.c.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cannot read .*a b\.c\.png"):
        write_datasets(("yolo",), tmp_path, NAMES, written(sources, tmp_path / "out"))


def test_parameters_reach_the_writer(tmp_path):
    entries = put(tmp_path / "out")
    made = write_datasets("coco(style=polygons, components=true), yolo(split=val)", tmp_path / "set", NAMES, entries)
    annotations = json.loads(made[0].read_text())["annotations"]
    assert all(isinstance(entry["segmentation"], list) for entry in annotations)
    assert (made[1] / "labels" / "val" / "trip" / "ä.1.txt").exists()
    with pytest.raises(ValueError, match="no parameter 'stile'; did you mean 'style'"):
        split_formats("coco(stile=rle)")


def test_a_picture_whose_own_result_is_in_the_way(tmp_path):
    picture = tmp_path / "photos" / "coco.png"
    picture.parent.mkdir()
    results()[0].image.save(picture)
    results()[0].save(tmp_path, ("png", "json"), "coco")
    entries = written(list_sources(picture.parent), tmp_path)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"'coco\.png' may be called .*coco\.json' too"):
        write_datasets(("coco",), tmp_path, NAMES, entries)
    assert tree(tmp_path) == before
    assert write_datasets(("coco",), tmp_path / "set", NAMES, entries)


# --- asking for them -------------------------------------------------------------------------------------------------


def test_split_formats():
    assert split_formats("png, overlay,coco,yolo(split=val)") == (("png", "overlay"), ("coco", "yolo(split=val)"))
    assert split_formats(["coco", "overlay", "coco"]) == (("overlay", "png"), ("coco",))  # made from label PNGs
    assert split_formats("overlay(alpha=0.3)") == (("overlay(alpha=0.3)",), ())
    assert dataset_formats(()) == () and dataset_formats("coco") == ("coco",)
    with pytest.raises(ValueError, match="masks is written for each picture"):
        dataset_formats(("masks", "coco"))
    with pytest.raises(ValueError, match=r"'polygon' is unknown; did you mean 'polygons'\?"):
        split_formats("png,polygon")
    with pytest.raises(ValueError, match="different parameters"):
        split_formats("yolo,yolo(split=val)")
    with pytest.raises(ValueError, match="no format given"):
        split_formats("")


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.needs])
def test_a_missing_extra_is_said_at_once(name, monkeypatch):
    module, extra = FORMATS[name].needs
    monkeypatch.setattr(registry, "find_spec", lambda wanted: None if wanted == module else object())
    with pytest.raises(ImportError, match=rf"'{name}' needs {module}: pip install 'clipseg_ws\[{extra}\]'"):
        split_formats(f"png,{name}")


def write_toy(result, path, files, *, word="hello"):
    path.write_text(f"{word} {len(result.names)}")


def write_toy_set(path, items, names):
    path.write_text(" ".join(item.name for item in items))


def test_a_new_format_is_one_entry_and_one_function(tmp_path, monkeypatch):
    for name, home, scope, file, parameters in (
        ("toy", "write_toy", "picture", ".toy", {"word": "hello"}),
        ("toys", "write_toy_set", "dataset", "t.txt", {}),
    ):
        about = {"scope": scope, "file": file}
        entry = Entry(name, "a toy", f"{__name__}:{home}", parameters=parameters, about=about)
        monkeypatch.setitem(FORMATS, name, entry)
    assert split_formats("toy(word=bye),toys") == (("toy(word=bye)", "png"), ("toys",))
    (path,) = results()[0].save(tmp_path, "toy(word=bye)", "a")
    assert path.name == "a.toy" and path.read_text() == "bye 4" and is_done(tmp_path, "a", ("toy",))
    (made,) = write_datasets(("toys",), tmp_path, NAMES, put(tmp_path / "out"))
    assert made.read_text() == "a b.c.png trip/ä.1.png"
    assert find_format("toy")[1] == {"word": "hello"} and picture_formats("toy") == ("toy",)


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_in_exports_are_the_pictures_real_paths(tmp_path):
    from clipseg_ws.pictures.naming import picture_names, picture_stems

    places = ["photo.png.png", "a.jpg", "a.png", "cam.1.jpg", "sub/a.jpg", "ä b.JPG"]
    for place in places:
        (tmp_path / "p" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 7)).save(tmp_path / "p" / place)
    sources = list_sources(tmp_path / "p")
    assert sorted(picture_names(sources)) == sorted(places)
    for source, result in zip(sources, [results()[1]] * len(sources), strict=True):
        save_file(result, tmp_path / "out", source)
    made = write_datasets("coco,voc,yolo,cvat,labelstudio", tmp_path / "set", NAMES, written(sources, tmp_path / "out"))
    content = json.loads(made[0].read_text())
    assert sorted(image["file_name"] for image in content["images"]) == sorted(places)
    stems = {"photo.png", "a.jpg", "a.png", "cam.1", "sub/a", "ä b"}
    assert set(picture_stems(picture_names(sources))) == stems
    assert {p.relative_to(made[1] / "SegmentationClass").as_posix() for p in made[1].rglob("*.png")} == {
        f"{stem}.png" for stem in stems
    }
    labels = {p.relative_to(made[2] / "labels").as_posix().partition("/")[2] for p in made[2].rglob("*.txt")}
    assert labels == {f"{stem}.txt" for stem in stems}
    pictures = {p.relative_to(made[2] / "images").as_posix().partition("/")[2] for p in made[2].rglob("*.*g")}
    assert {name.rpartition(".")[0] for name in pictures} | {"ä b"} == stems  # every picture has its text


def test_the_same_name_in_two_listed_folders(tmp_path):
    from clipseg_ws.pictures.naming import picture_names

    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (5, 7)).save(tmp_path / folder / "1.png")
    sources = list_sources([tmp_path / "one", tmp_path / "two"])
    assert picture_names(sources) == ["one/1.png", "two/1.png"]
    urls = list_sources(["https://example.org/a/1.png?x=1", "https://example.org/b/1.png", "https://example.org/2.png"])
    names = picture_names(urls)
    assert len(set(names)) == 3 and names[2] == "2.png" and all(name.endswith(".png") for name in names)


def save_file(result, folder, source):
    from clipseg_ws.output.save import save

    save(result, folder, ("png",), relative=source.relative)
