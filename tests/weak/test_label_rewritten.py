"""An annotation set that is shuffled, renamed, encoded anew and saved in another tool's form gives the same marks."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_files import labelme, picture, region, shape, task, voc, voc_object, write

from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.weak.label_files import read_label_files

SIZE = (64, 48)
NAMES = ("a.png", "b c.png", "é.v2.png", "x/1.png", "y/1.png", "x/a.jpg")
boxes = st.tuples(
    st.integers(0, 30), st.integers(0, 20), st.integers(1, 30), st.integers(1, 25), st.sampled_from("tqü")
)
sets = st.fixed_dictionaries({name: st.lists(boxes, max_size=3) for name in NAMES})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set") / "photos"
    for name in NAMES:
        picture(folder / name, SIZE)
    return list_sources(folder)


def as_coco(root, marked, rng, encoding):
    ids = dict(zip(marked, rng.sample(range(900), len(marked)), strict=True))
    labels = {"t": 5, "q": 90, "ü": 7}
    listed = [
        {"image_id": ids[name], "category_id": labels[label], "bbox": [x, y, w, h], "id": rng.randrange(9999)}
        for name, mine in marked.items()
        for x, y, w, h, label in mine
    ]
    images = [{"id": ids[n], "file_name": n, "width": SIZE[0], "height": SIZE[1]} for n in marked]
    for part in (listed, images):
        rng.shuffle(part)
    categories = [{"id": i, "name": n} for n, i in labels.items()]
    return write(root / "c.json", {"annotations": listed, "categories": categories, "images": images}, encoding)


def as_voc(root, marked, rng, encoding):
    for name, mine in marked.items():
        objects = [voc_object(x + 1, y + 1, x + w, y + h, label) for x, y, w, h, label in mine]
        rng.shuffle(objects)
        write(root / "voc" / f"{name}.xml", voc(*objects, size=SIZE, filename=name.rpartition("/")[2]), encoding)
    return root / "voc"


def as_labelme(root, marked, rng, encoding):
    for number, (name, mine) in enumerate(marked.items()):
        shapes = [shape("rectangle", [[x, y], [x + w, y + h]], label) for x, y, w, h, label in mine]
        content = labelme(*shapes, image="..\\photos\\" + name.replace("/", "\\"), size=SIZE)
        write(root / "lm" / f"ann_{number:04}.json", content, encoding)
    return root / "lm"


def as_studio(root, marked, rng, encoding):
    tasks = []
    for name, mine in marked.items():
        percent = [
            region((label,), x=x * 100 / 64, y=y * 100 / 48, width=w * 100 / 64, height=h * 100 / 48)
            | {"original_width": SIZE[0], "original_height": SIZE[1]}
            for x, y, w, h, label in mine
        ]
        tasks.append(task(*percent, image=f"/data/local-files/?d=photos/{name}"))
    rng.shuffle(tasks)
    return write(root / "ls.json", tasks, encoding)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sets, st.integers(0, 2**20), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(["NFC", "NFD"]))
def test_forms_orders_and_encodings(photos, tmp_path_factory, marked, seed, encoding, form):
    root, rng = tmp_path_factory.mktemp("labels"), random.Random(seed)
    (root / "photos").symlink_to(photos[0].location.rpartition("photos")[0] + "photos")
    written = {unicodedata.normalize(form, name): mine for name, mine in marked.items()}
    wanted = {name: sorted((label, x, y, x + w, y + h) for x, y, w, h, label in mine) for name, mine in marked.items()}
    for make in (as_coco, as_voc, as_labelme, as_studio):
        labels = read_label_files(None, [make(root, written, rng, encoding)], photos)
        assert not labels.report
        for source in photos:
            found = labels.labels(source)
            name = source.location.rpartition("photos/")[2]
            rounded = sorted((n, *(round(v, 4) for v in box)) for n, *box in found.boxes)
            assert rounded == wanted[name] and (found.tags == () if not wanted[name] else found.tags is None)
