"""Pseudo masks of a folder: complete after kills, nothing half written, nothing done twice, shards, exports, review."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.door import InputError
from clipseg_ws.files import TEMPORARY
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.file import HeadCard, save_head
from clipseg_ws.output.datasets import write_datasets
from clipseg_ws.output.formats import names_of
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.review import Reviewed, write_review
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.sources import Source, list_sources
from clipseg_ws.run.pseudo import (
    ignore_uncertain,
    make_pseudo,
    pseudo_entries,
)
from clipseg_ws.run.training.masks import feedback_words, open_masks
from clipseg_ws.stored import is_sure
from clipseg_ws.structures import WeakLabels
from clipseg_ws.text.vocabulary import parse_classes

NAMES = ("cat", "dog")


def draw(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        shape = (48, 64, 3) if i % 2 else (64, 48, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"p{i:03d}.png")
    return folder


def tagged(source: Source) -> WeakLabels:
    """Every third picture has a box too."""
    number = int(source.relative.name[1:])
    box = (("cat", 5, 5, 30, 40),) if number % 3 == 0 else ()
    return WeakLabels(tags=NAMES if number % 2 else NAMES[:1], boxes=box)


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=3, keep_maps=True)


def same_answers(one: Path, other: Path) -> bool:
    """The same files, up to float rounding (it depends on the batch): confidence by 1/255, masks in 1 % of pixels."""
    names = [sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png")) for folder in (one, other)]
    for name in names[0] if names[0] == names[1] else ():
        a, b = (np.asarray(Image.open(folder / name)).astype(int) for folder in (one, other))
        if a.shape != b.shape or (np.abs(a - b).max() > 1 if "_confidence" in name else (a != b).mean() > 0.01):
            return False
    return names[0] == names[1]


def test_masks_confidence_and_maps(segmenter, tmp_path):
    sources = list_sources(draw(tmp_path / "photos", 5))
    summary = make_pseudo(segmenter, sources, tmp_path / "out", tagged, segmenter.ask(NAMES), confidence=0.6, maps=True)
    assert (summary.run.done, summary.run.failed) == (5, 0)
    assert summary.pixels == 5 * 48 * 64
    ignored = 0
    for source in sources:
        stem = tmp_path / "out" / "masks" / str(source.relative)
        mask = read_label_png(stem.with_suffix(".png"))
        result = segmenter(str(source), classes=NAMES, weak=tagged(source))
        expected = np.where(is_sure(result.confidence, 0.6), result.labels, 255)
        assert (mask != expected).mean() < 0.01  # alone or in a batch: float rounding at the threshold
        ignored += int((mask == 255).sum())
        with Image.open(f"{stem}_confidence.png") as image:
            assert image.mode == "L"
            assert np.abs(np.asarray(image) / 255 - result.confidence).max() <= 0.5 / 255 + 1e-4
        with np.load(tmp_path / "out" / "maps" / f"{source.relative}.npz") as stored:
            assert stored["maps"].dtype == np.float16
            full = np.zeros((2, *mask.shape))
            full[stored["labels"] - 1] = stored["maps"]
            assert np.abs(full - result.extras["maps"]).max() < 1e-3
    assert summary.ignored == ignored and 0 < ignored < summary.pixels
    assert any("255" in line and f"{ignored / summary.pixels:.1%}" in line for line in summary.lines())
    assert (tmp_path / "out" / "classes.txt").read_text().split() == ["background", *NAMES]


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/run"]
import torch
torch.set_num_threads(1)
from conftest import tiny_clip
from clipseg_ws import Segmenter
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.run.pseudo import make_pseudo
from clipseg_ws.pictures.sources import list_sources
from test_pseudo import NAMES, tagged
photos, out = Path({photos!r}), Path({out!r})
segmenter = Segmenter(backbone=OpenClipBackbone(tiny_clip()), attention_blocks=2, batch_size=3, refine="guided")
sources = list_sources(photos)
question = segmenter.ask(NAMES)

def complete():
    masks = sorted((out / "masks").glob("p???.png"))
    return {{p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in masks
            if p.with_name(p.stem + "_confidence.png").exists()}}

seen = {{}}
for wanted in (10, 25, 40, None):
    child = os.fork()
    if not child:
        summary = make_pseudo(segmenter, sources, out, tagged, question)
        os._exit(0 if summary.run.failed == 0 and summary.run.skipped == len(seen) else 3)
    if wanted is not None:
        while len(complete()) < wanted:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run ended before it could be killed"
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert (os.WIFSIGNALED(status) if wanted else status == 0), (wanted, status)
    now = complete()
    assert seen.items() <= now.items(), "a finished picture was written again"
    print(len(now))
    seen = now
"""


def test_three_kills(segmenter, tmp_path):
    photos, out = draw(tmp_path / "photos", 60), tmp_path / "out"
    code = KILLED.format(tests=str(Path(__file__).parents[1]), photos=str(photos), out=str(out))
    environment = os.environ | {"CLIPSEG_WS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = [int(word) for word in done.stdout.split()]
    assert counts == sorted(counts) and 10 <= counts[0] < counts[1] < counts[2] < counts[3] == 60
    assert not [p for p in out.rglob(f"{TEMPORARY}*") if p.is_file()]  # what killed runs left is gone
    guided = segmenter.variant(refine="guided")
    whole = make_pseudo(guided, list_sources(photos), tmp_path / "whole", tagged, guided.ask(NAMES))
    assert whole.run.done == 60 and same_answers(out / "masks", tmp_path / "whole" / "masks")


def test_shards_make_the_whole(segmenter, tmp_path):
    sources = list_sources(draw(tmp_path / "photos", 7))
    for i in (1, 2, 3):
        summary = make_pseudo(segmenter, sources, tmp_path / "parts", tagged, segmenter.ask(NAMES), shard=(i, 3))
        assert summary.run.total == (3, 2, 2)[i - 1]
    make_pseudo(segmenter, sources, tmp_path / "whole", tagged, segmenter.ask(NAMES))
    assert len(list((tmp_path / "whole").rglob("*.png"))) == 14
    assert same_answers(tmp_path / "parts", tmp_path / "whole")


def test_failures_are_listed_and_the_rest_done(segmenter, tmp_path):
    sources = list_sources(draw(tmp_path / "photos", 6))

    def weak(source: Source) -> WeakLabels:
        if source.relative.name == "p001":
            raise ValueError("no entry")
        if source.relative.name == "p002":
            return WeakLabels(tags=("cat",), boxes=(("dog", 0, 0, 9, 9),))
        return tagged(source)

    summary = make_pseudo(segmenter, sources, tmp_path / "out", weak, segmenter.ask(NAMES), shard=(1, 1))
    assert (summary.run.done, summary.run.failed) == (4, 2)
    rows = {Path(r["image"]).stem: r for r in csv.DictReader((tmp_path / "out" / "errors.csv").open())}
    assert rows["p001"]["message"] == "no entry"
    assert rows["p002"]["error"] == "LabelConflict" and "marks name dog" in rows["p002"]["message"]


def test_other_settings_are_not_mixed_in(segmenter, tmp_path):
    sources = list_sources(draw(tmp_path / "photos", 1))
    make_pseudo(segmenter, sources, tmp_path / "out", tagged, segmenter.ask(NAMES))
    assert make_pseudo(segmenter, sources, tmp_path / "out", tagged, segmenter.ask(NAMES)).run.skipped == 1
    with pytest.raises(ValueError, match=r"other classes, synonyms; .*--overwrite"):
        make_pseudo(segmenter, sources, tmp_path / "out", tagged, segmenter.ask(("cat", "cow")))
    other = segmenter.variant(alpha=2)
    with pytest.raises(ValueError, match="other alpha, min_confidence"):
        make_pseudo(other, sources, tmp_path / "out", tagged, other.ask(NAMES), confidence=0.5)
    again = make_pseudo(other, sources, tmp_path / "out", tagged, other.ask(NAMES), overwrite=True)
    assert again.run.done == 1
    bare = other.ask(NAMES, background=())
    with pytest.raises(ValueError, match="other background_words"):
        make_pseudo(other, sources, tmp_path / "out", tagged, bare)


WORDS = [  # classes of the second call, and what it differs in
    (["cat, kitten", "dog"], "synonyms"),
    (parse_classes(["cat", "dog"], templates=["a bad photo of a {}."]), "templates"),
    (parse_classes(["cat", "dog"], fusion="max"), "fusion"),
    ([{"name": "cat", "prompts": ["a pet"]}, "dog"], "prompts"),
]


@pytest.mark.parametrize("words, said", WORDS, ids=[said for _, said in WORDS])
def test_words_are_settings_and_a_training_finds_them_again(segmenter, tmp_path, words, said):
    sources = list_sources(draw(tmp_path / "photos", 1))
    for name, classes in (("plain", list(NAMES)), ("other", words)):
        question = segmenter.ask(classes, background=["sky", "old snow"])
        make_pseudo(segmenter, sources, tmp_path / name, tagged, question)
        assert feedback_words(segmenter, open_masks(tmp_path / name)) == question.vocabulary
    with pytest.raises(ValueError, match=f"other {said};"):
        make_pseudo(segmenter, sources, tmp_path / "plain", tagged, question)


def test_masks_of_another_head_are_others(tiny_backbone, tmp_path):
    sources, spec = list_sources(draw(tmp_path / "photos", 1)), FeatureSpec(blocks=(-1,))
    card = HeadCard(NAMES, tiny_backbone.name, tiny_backbone.weights_sha256, spec, "linear", tiny_backbone.width)
    made = []
    for name, bias in (("a", [0.0, 2.0, -2.0]), ("b", [0.0, -2.0, 2.0])):
        module = make_head("linear", 1, tiny_backbone.width, 3)
        with torch.no_grad():
            module.classify.bias.copy_(torch.tensor(bias))
        save_head(tmp_path / name, module, card)
        made.append(Segmenter(backbone=tiny_backbone, head=tmp_path / name, refine="none"))
    for _ in range(2):
        make_pseudo(made[0], sources, tmp_path / "out", tagged, made[0].ask(), confidence=0.0)
    with pytest.raises(ValueError, match="other head_sha256"):
        make_pseudo(made[1], sources, tmp_path / "out", tagged, made[1].ask(), confidence=0.0)


@pytest.mark.parametrize("spoilt", [
    {"synonyms": "cat"}, {"synonyms": [["cat"]]}, {"templates": None}, {"background_words": [1]}, {"prompts": 3},
    {"prompts": [[], [], []]},
])  # fmt: skip
def test_spoilt_words_of_a_mask_folder(segmenter, tmp_path, spoilt):
    sources = list_sources(draw(tmp_path / "photos", 1))
    make_pseudo(segmenter, sources, tmp_path / "out", tagged, segmenter.ask(NAMES))
    path = tmp_path / "out" / "settings.json"
    there = json.loads(path.read_text())
    path.write_text(json.dumps(there | {"settings": there["settings"] | spoilt}))
    with pytest.raises(InputError, match=r"settings\.json.*words of the classes"):
        open_masks(tmp_path / "out")


def test_ignore_uncertain():
    seg = Segmentation(
        np.array([[0, 1], [2, 1]], np.uint8), NAMES, {}, np.array([[0.94, 0.96], [0.95, 0.1]], np.float32)
    )
    assert ignore_uncertain(seg, 0.95).labels.tolist() == [[255, 1], [2, 255]]
    assert ignore_uncertain(seg, 0).labels.tolist() == seg.labels.tolist() == [[0, 1], [2, 1]]
    with pytest.raises(ValueError, match="at most 254"):
        ignore_uncertain(Segmentation(seg.labels, tuple(map(str, range(255))), {}, seg.confidence))
    with pytest.raises(ValueError, match=r"confidence=95"):
        ignore_uncertain(seg, 95)


def test_exports_and_review_read_what_was_written(segmenter, tmp_path):
    sources = list_sources(draw(tmp_path / "photos", 4))
    out = tmp_path / "out"
    make_pseudo(segmenter, sources, out, tagged, segmenter.ask(NAMES), confidence=0)
    entries = pseudo_entries(sources, out)
    assert [e.name for e in entries] == ["p000.png", "p001.png", "p002.png", "p003.png"]
    write_datasets(names_of("dataset"), out, NAMES, entries)
    coco = json.loads((out / "coco.json").read_text())
    area = sum(a["area"] for a in coco["annotations"])
    assert len(coco["images"]) == 4 and area == sum(int((read_label_png(e.labels) > 0).sum()) for e in entries)
    assert {p.name for p in out.iterdir()} >= {"yolo", "voc", "labelstudio.json", "cvat.zip"}
    pictures = [
        Reviewed(e.name, e.location, e.labels, e.labels.with_name(f"{e.labels.stem}_confidence.png")) for e in entries
    ]
    Image.new("L", (64, 48), 10).save(pictures[3].confidence)
    Image.new("L", (48, 64), 20).save(pictures[2].confidence)
    os.remove(pictures[2].image)
    assert write_review(out / "review.html", pictures, ["<cat>", "dog"], most=3) == 3
    page = (out / "review.html").read_text()
    assert page.index("p003.png") < page.index("p002.png") and "0.039" in page and "&lt;cat&gt;" in page
    assert 'src="http' not in page and page.count("data:image/jpeg;base64,") == 3 + 1 + 3
    assert page.count("<figure>") == 3


def test_other_formats_of_a_picture_lie_beside_its_mask(segmenter, tmp_path):
    sources = list_sources(draw(tmp_path / "photos", 2))
    out = tmp_path / "out"
    question, more = segmenter.ask(NAMES), ("masks", "cutout", "overlay")
    made = make_pseudo(segmenter, sources, out, tagged, question, confidence=0.5)
    again = make_pseudo(segmenter, sources, out, tagged, question, confidence=0.5, formats=more)
    assert (made.run.done, again.run.done, again.run.skipped) == (2, 2, 0)
    for entry in pseudo_entries(sources, out, more):
        labels = read_label_png(entry.labels)
        folder = entry.labels.with_name(f"{entry.labels.stem}_masks")
        assert {p.stem for p in folder.iterdir()} == {name for i, name in enumerate(NAMES, 1) if (labels == i).any()}
        for path in folder.iterdir():
            assert ((np.asarray(Image.open(path)) == 255) == (labels == NAMES.index(path.stem) + 1)).all()
    (out / "masks" / "p000_cutout").rename(out / "gone")
    assert len(pseudo_entries(sources, out, ("cutout",))) == 1 and len(pseudo_entries(sources, out)) == 2
    with pytest.raises(ValueError, match="coco is one result for a whole folder"):
        make_pseudo(segmenter, sources, out, tagged, question, confidence=0.5, formats=("coco",))


def test_instances_are_written_and_become_annotations(segmenter, tmp_path):
    from pycocotools import mask as coco_mask

    sources = list_sources(draw(tmp_path / "photos", 3))
    out = tmp_path / "out"
    eager = segmenter.variant("clip-es", instances=True)
    make_pseudo(eager, sources, out, tagged, eager.ask(NAMES), confidence=0)
    write_datasets("coco", out, NAMES, pseudo_entries(sources, out))
    annotations = json.loads((out / "coco.json").read_text())["annotations"]
    for number, source in enumerate(sources, start=1):
        mask = read_label_png(out / "masks" / f"{source.relative}.png")
        things = read_label_png(out / "instances" / f"{source.relative}.png")
        foreground = (mask > 0) & (mask != 255)
        assert ((things > 0) == foreground).all()
        mine = [a for a in annotations if a["image_id"] == number]
        assert len(mine) == len(np.unique(things[foreground]))
        for entry in mine:
            part = coco_mask.decode(entry["segmentation"]).astype(bool)
            assert len(np.unique(things[part])) == 1 and (mask[part] == entry["category_id"]).all()
        assert sum(a["area"] for a in mine) == foreground.sum()
    assert len(annotations) > len(sources)
