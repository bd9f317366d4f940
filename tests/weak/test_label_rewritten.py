"""An annotation set that is shuffled, renamed, encoded anew and saved in another tool's form gives the same marks."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_files import labelme, picture, region, shape, task, voc, voc_object, write

from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.constraints import constraints
from clipseg_ws.weak.label_files import read_label_files
from clipseg_ws.weak.placement import LabelConflict

SIZE = (64, 48)
NAMES = ("a.png", "b c.png", "é.v2.png", "x/1.png", "y/1.png", "x/a.jpg")


def allowed(labels):
    """What the labels allow at every pixel, or why they contradict one another."""
    try:
        found = constraints(labels, ("t", "q", "ü"), (48, 64))
    except LabelConflict:
        return "conflict"
    return found.allow.numpy().tobytes(), found.seed.numpy().tobytes(), sorted(found.boxes), found.present


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


def around(x, y, w, h):
    """A polygon whose box is known: x, y, x, y, ..."""
    return [x, y, x + w / 2, y, x + w, y + h / 3, x + w, y + h, x, y + h / 2]


def percents(values):
    return [[a * 100 / 64, b * 100 / 48] for a, b in pairs(values)]


def pairs(values):
    return [list(pair) for pair in zip(values[::2], values[1::2], strict=True)]


def as_cvat(root, marked, rng, encoding):
    images = []
    for number, (name, mine) in enumerate(marked.items()):
        shapes = []
        for x, y, w, h, label in mine:
            if rng.random() < 0.5:
                shapes.append(f'<box label="{label}" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>')
            else:
                corners = ";".join(f"{a},{b}" for a, b in pairs(around(x, y, w, h)))
                shapes.append(f'<polygon label="{label}" points="{corners}"/>')
        rng.shuffle(shapes)
        head = f'<image id="{number}" name="{name}" width="{SIZE[0]}" height="{SIZE[1]}">'
        images.append(f"{head}{''.join(shapes)}</image>")
    rng.shuffle(images)
    return write(root / "cvat.xml", f"<annotations><version>1.1</version>{''.join(images)}</annotations>", encoding)


def as_coco(root, marked, rng, encoding):
    ids = dict(zip(marked, rng.sample(range(900), len(marked)), strict=True))
    labels = {"t": 5, "q": 90, "ü": 7}
    listed = [
        {"image_id": ids[name], "category_id": labels[label], "id": rng.randrange(9999)}
        | ({"bbox": [x, y, w, h]} if rng.random() < 0.5 else {"bbox": None, "segmentation": [around(x, y, w, h)]})
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
        shapes = [
            shape("rectangle", [[x + w, y], [x, y + h]], label)
            if rng.random() < 0.5
            else shape("polygon", pairs(around(x, y, w, h)), label)
            for x, y, w, h, label in mine
        ]
        rng.shuffle(shapes)
        content = labelme(*shapes, image="..\\photos\\" + name.replace("/", "\\"), size=SIZE)
        write(root / "lm" / f"ann_{number:04}.json", content, encoding)
    return root / "lm"


def as_studio(root, marked, rng, encoding):
    tasks = []
    for name, mine in marked.items():
        percent = [
            (
                region((label,), x=x * 100 / 64, y=y * 100 / 48, width=w * 100 / 64, height=h * 100 / 48)
                if rng.random() < 0.5
                else region((label,), "polygonlabels", points=percents(around(x, y, w, h)))
            )
            | {"original_width": SIZE[0], "original_height": SIZE[1]}
            for x, y, w, h, label in mine
        ]
        rng.shuffle(percent)
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
    for make in (as_coco, as_voc, as_labelme, as_studio, as_cvat):
        labels = read_label_files(None, [make(root, written, rng, encoding)], photos)
        assert not labels.report
        for source in photos:
            found = labels.labels(source)
            name = source.location.rpartition("photos/")[2]
            rounded = sorted((n, *(round(v, 4) for v in box)) for n, *box in found.boxes)
            assert rounded == wanted[name] and (found.tags == () if not wanted[name] else found.tags is None)
            plain = WeakLabels(tags=None if wanted[name] else (), boxes=tuple(wanted[name]))
            mine, theirs = (allowed(labels) for labels in (found, plain))
            assert mine == theirs  # the same pixels, whatever the form
