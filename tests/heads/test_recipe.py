"""From pictures and masks to a head's file and back: the store, the command, the Segmenter, the schemes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch.nn.functional import adaptive_avg_pool2d
from typer.testing import CliRunner

from clipseg_ws import Config, Segmenter
from clipseg_ws.cli.app import app
from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
from clipseg_ws.heads.augment import AugmentedData
from clipseg_ws.heads.data import ArrayData, Targets
from clipseg_ws.heads.features import FeatureSpec, encode_features, encode_tokens, pixel_batch
from clipseg_ws.heads.head_file import load_head, save_head
from clipseg_ws.heads.incremental import shifted
from clipseg_ws.heads.paste import cut_out
from clipseg_ws.heads.token_store import StoredData, TokenStore
from clipseg_ws.output.formats.png import write_label_png
from clipseg_ws.pictures.images import ImageError, read_image
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.refine.affinity import class_aware_affinity
from clipseg_ws.run.training.data import size_in_header
from clipseg_ws.run.training.masks import feedback_targets, open_masks, shrink_targets
from clipseg_ws.run.training.options import Recipe, default_threshold
from clipseg_ws.run.training.views import Donors, Views
from clipseg_ws.stages.by_head import spread_winners, winners
from clipseg_ws.structures import Support, Tokens

ROOT = Path(__file__).resolve().parents[2]
SPEC = FeatureSpec(blocks=(-1, 1), short_side=64)
FAST = "--model nano --dtype float32 --set short_side=64 --set refine=none --option hidden=8 --option depth=1"
FAST = f"{FAST} --option upsample=2 --steps 6 --batch-size 2".split()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Six drawn pictures of two sizes with true masks in the layout of ``pseudo``, and tags."""
    root = tmp_path_factory.mktemp("scenes")
    (root / "photos").mkdir()
    rows = [("image", "tags")]
    for i in range(6):
        scene = draw_scene(4_900_000 + i, (64, 64) if i % 2 else (64, 96))
        Image.fromarray(scene.image).save(root / "photos" / f"p{i}.png")
        write_label_png(scene.labels, root / "masks" / "masks" / f"p{i}.png")
        rows.append((f"p{i}.png", ";".join(scene.tags)))
    (root / "masks" / "classes.txt").write_text("".join(f"{n}\n" for n in ("background", *KINDS)))
    with open(root / "tags.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter("nano", dtype="float32", short_side=64, refine="none")


def call(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def few_classes(scenes, tmp_path):
    """The masks as two classes, so that both are in every handful of pictures: 1 = odd labels, 2 = even ones."""
    folder = tmp_path / "two"
    for path in sorted((scenes / "masks" / "masks").glob("*.png")):
        labels = np.asarray(Image.open(path))
        write_label_png(np.where(labels == 0, 0, 2 - labels % 2).astype(np.uint8), folder / "masks" / path.name)
    (folder / "classes.txt").write_text("background\nodd\neven\n")
    return folder


# ---- tokens --------------------------------------------------------------------------------------------------------


def test_store_equals_encoding_and_goes_on_after_a_kill(scenes, nano, tmp_path):
    names = [s.location for s in list_sources(str(scenes / "photos"))]
    load = lambda name: Image.open(name).convert("RGB")  # noqa: E731
    store = TokenStore(tmp_path, nano.backbone, SPEC)
    assert store.build(names[:4], load, batch_size=2) == 4
    whole = {name: store.read([name]) for name in names[:4]}
    for name in names[:2]:
        expected = encode_features(nano.backbone, pixel_batch(nano.backbone, [load(name)], SPEC), SPEC)
        assert store.read([name]).shape == (1, 2, 192, *expected.shape[-2:])
        assert torch.allclose(store.read([name]).float(), expected, atol=0.02, rtol=2e-3)
    with open(tmp_path / "tokens.bin", "ab") as file:
        file.write(b"12345")  # a picture that was being written
    with open(tmp_path / "index.jsonl", "ab") as file:
        file.write(b'{"name": "half')
    again = TokenStore(tmp_path, nano.backbone, SPEC)
    assert again.build(names, load) == 2 and again.build(names, load) == 0
    assert all(torch.equal(again.read([name]), tokens) for name, tokens in whole.items())
    expected = encode_features(nano.backbone, pixel_batch(nano.backbone, [load(names[5])], SPEC), SPEC)
    assert torch.allclose(again.read([names[5]]).float(), expected, atol=0.02, rtol=2e-3)
    with pytest.raises(ValueError, match="short_side"):
        TokenStore(tmp_path, nano.backbone, FeatureSpec(blocks=(1, 5), short_side=80))


def test_features_of_the_blocks(nano):
    pixels = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    tokens = nano.backbone.encode(pixels, attention_blocks=0, keep_layers=[1])
    got = encode_features(nano.backbone, pixels, SPEC)
    assert got.shape == (2, 2, 192, 3, 4)
    assert torch.equal(got[1, 0, :, 1, 2], tokens.layers[1][1, 1 * 4 + 2])
    last = nano.backbone.last_block(tokens.last_input)
    assert torch.allclose(got[1, 1, :, 2, 1], last[1, 1 + 2 * 4 + 1], atol=1e-4)
    with pytest.raises(ValueError, match="blocks"):
        FeatureSpec(blocks=(6,)).resolved(6)
    with pytest.raises(ValueError, match="different"):
        FeatureSpec(blocks=(5, -1)).resolved(6)


def test_tokens_of_several_scales_lie_on_one_grid(nano):
    picture = Image.fromarray(draw_scene(3, (96, 64)).image)  # h != w
    spec = FeatureSpec(blocks=(-1, 1), short_side=64, more_scales=(0.5, 1.5))
    pixels = pixel_batch(nano.backbone, [picture, picture], spec)
    features, tokens = encode_tokens(nano.backbone, pixels, spec, attention_blocks=2)
    bare = FeatureSpec(blocks=(-1, 1), short_side=64)
    first, same = encode_tokens(nano.backbone, pixels, bare, attention_blocks=2)
    assert spec.count == 6 and features.shape == (2, 6, 192, 6, 4) and torch.equal(features[:, :2], first)
    assert torch.equal(tokens.attention, same.attention)  # of the picture's own size
    small = torch.nn.functional.interpolate(pixels, (48, 32), mode="bicubic", antialias=True)
    half = encode_features(nano.backbone, small, bare)
    assert half.shape[-2:] == (3, 2)
    wanted = torch.nn.functional.interpolate(half.flatten(1, 2), (6, 4), mode="bilinear").unflatten(1, (2, 192))
    assert torch.allclose(features[:, 2:4], wanted, atol=1e-5)
    assert FeatureSpec.from_dict(spec.as_dict()) == spec
    old = {key: value for key, value in bare.as_dict().items() if key != "more_scales"}
    assert FeatureSpec.from_dict(old) == bare  # files written before there were scales
    for wrong in ((1.0,), (0.5, 0.5), (0.1,)):
        with pytest.raises(ValueError, match="more_scales"):
            FeatureSpec(more_scales=wrong)


def test_attention_comes_from_the_same_pass(nano):
    pixels = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    features, tokens = encode_tokens(nano.backbone, pixels, SPEC, attention_blocks=2, keep_layers=(3,))
    alone = nano.backbone.encode(pixels, attention_blocks=2, keep_layers=(3,))
    assert torch.allclose(features, encode_features(nano.backbone, pixels, SPEC), atol=1e-4)
    assert torch.equal(tokens.attention, alone.attention) and torch.equal(tokens.layers[3], alone.layers[3])


def test_maps_of_a_head_are_spread_along_the_attention():
    """Against the definition, with an absent second class and attention that only knows one neighbour."""
    config = Config(affinity_threshold=0.1, head_affinity=0.5)
    probabilities = torch.zeros(1, 3, 4, 6)  # 2 x 3 patches, two pixels a side
    probabilities[0, 1, :2, :2] = 0.8  # the first patch
    probabilities[0, 0] = 1 - probabilities[0, 1]
    maps = winners(probabilities, None)
    attention = torch.full((1, 6, 6), 0.01) + torch.eye(6)
    attention[0, 0, 1] = attention[0, 1, 0] = 1.0
    tokens = Tokens(last_input=torch.zeros(1), attention=attention, layers={}, grid=(2, 3))
    spread = class_aware_affinity(adaptive_avg_pool2d(maps.maps, (2, 3)), attention, threshold=0.1)
    wide = torch.nn.functional.interpolate(spread, size=(4, 6), mode="bilinear", align_corners=False)
    both = wide.sqrt() * maps.maps.sqrt()
    got = spread_winners(maps, tokens, config, None, 6)
    total = both.sum(1) + maps.background
    assert torch.allclose(got.maps, both / total[:, None], atol=1e-6)
    assert torch.allclose(got.maps.sum(1) + got.background, torch.ones(1, 4, 6), atol=1e-6)
    empty = winners(torch.eye(3)[0].reshape(1, 3, 1, 1).expand(1, 3, 4, 6), None)
    assert spread_winners(empty, tokens, config, None, 6).maps.shape[1] == 0


def test_augmented_views_move_picture_and_mask_alike(nano):
    labels = np.zeros((64, 96), np.uint8)
    labels[16:48, 8:40] = 1
    labels[40:60, 60:90] = 255
    picture = Image.fromarray(np.stack([labels] * 3, -1))  # the picture shows its own mask
    data = AugmentedData(nano.backbone, SPEC, lambda i: (picture, labels, np.full_like(labels, 200)), [(96, 64)] * 2)
    one, two = data.batch([0, 1], (0, 1)), data.batch([0, 1], (0, 1))
    assert torch.equal(one.features, two.features) and torch.equal(one.labels, two.labels)
    assert not torch.equal(one.labels, data.batch([0, 1], (0, 2)).labels)
    assert one.labels.shape == (2, 16, 24) and set(one.labels.unique().tolist()) <= {0, 1, 255}
    view, mask, sure = data.augmentation(picture, labels, labels, np.random.default_rng(3))
    assert view.size == (96, 64) and mask.shape == (64, 96)
    again = data.augmentation.masks(labels, labels, np.random.default_rng(3))
    assert np.array_equal(again[0], mask) and np.array_equal(again[1], sure)
    shown = np.asarray(view)[..., 0] > 100
    assert (shown == (mask == 255)).mean() > 0.97 and np.array_equal(mask, sure)


def test_things_of_other_pictures_are_pasted_with_their_masks(scenes):
    """Views of pictures that show their own masks: picture and masks stay together, with and without decoding."""
    sources = list_sources(str(scenes / "photos"))
    folder = open_masks(scenes / "masks")
    views, plain = Views(sources, folder, 3, Donors(sources, folder, 2)), Views(sources, folder, 3)
    changed = 0
    for number in range(len(views.keys)):
        picture, labels, confidence = views.load(number)
        assert picture.size == labels.shape[::-1] == confidence.shape[::-1]
        again = views.masks(number)
        assert np.array_equal(again[0], labels) and np.array_equal(again[1], confidence)
        base = plain.load(number)
        different = (np.asarray(picture) != np.asarray(base[0])).any(-1)
        assert not different[(labels == base[1]) & (labels == 0)].any()  # what is pasted is a thing, not its ground
        changed += bool((labels != base[1]).any())
        assert changed == 0 or number >= len(sources)  # the first view is the picture as it is
    assert changed >= 6
    assert views.keys[:6] == plain.keys[:6] and not set(views.keys[6:]) & set(plain.keys[6:])
    assert Views(sources, folder, 3, Donors(sources, folder, 2)).keys == views.keys
    fewer = Views(sources, folder, 3, Donors(sources[:5], folder, 2))
    assert not set(fewer.keys[6:]) & set(views.keys)  # other donors, other pictures
    with pytest.raises(ValueError, match="views=2"):
        Recipe(paste=1)


@given(
    st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40),
    st.sampled_from([(0.6, 1.3), (0.01, 0.02), (1.0, 1.0)]),
)  # fmt: skip
def test_a_cutout_lies_inside_and_holds_one_class(seed, h, w, height, width, scale):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (h, w), p=[0.7, 0.1, 0.1, 0.1])
    confidence = rng.integers(0, 256, (h, w)).astype(np.uint8)
    cutout = cut_out(labels, confidence, (width, height), rng, scale=scale)
    if cutout is None:
        return
    ground = np.full((height, width), 255, np.uint8)
    mask, sure = cutout.into_masks(ground, ground)
    assert set(np.unique(mask)) <= {1, 2, 255} and len(set(np.unique(mask)) - {255}) <= 1
    assert ground.min() == 255 and set(np.unique(sure[mask < 255])) <= set(np.unique(confidence))
    shown = Image.fromarray(np.stack([labels] * 3, -1))
    after = np.asarray(cutout.into_picture(Image.new("RGB", (width, height), (255, 255, 255)), shown))
    assert (after[mask == 255] == 255).all() and after.shape == (height, width, 3)


def test_pasted_views_while_training(scenes, nano):
    """--augment --paste: a new view at every visit, the same for the same seed."""
    sources, folder = list_sources(str(scenes / "photos")), open_masks(scenes / "masks")
    views = Views(sources, folder, 1)
    make = {"detail": 2, "change": Donors(sources, folder, 3).paste}
    data = AugmentedData(nano.backbone, SPEC, views.load, [(96, 64), (64, 64)] * 3, **make)
    bare = AugmentedData(nano.backbone, SPEC, views.load, [(96, 64), (64, 64)] * 3, detail=2)
    one, two = data.batch([0, 2, 4], (0, 1)), data.batch([0, 2, 4], (0, 1))
    assert torch.equal(one.features, two.features) and torch.equal(one.labels, two.labels)
    assert not torch.equal(one.labels, bare.batch([0, 2, 4], (0, 1)).labels)


def test_held_back_pictures_are_no_donors(scenes, tmp_path, monkeypatch):
    seen = []

    class Spy(Donors):
        def __init__(self, sources, *more, **options):
            seen.append([str(source.relative) for source in sources])
            super().__init__(sources, *more, **options)

    monkeypatch.setattr("clipseg_ws.run.training.data.Donors", Spy)
    call("train", few_classes(scenes, tmp_path), "--images", scenes / "photos", "-o", tmp_path / "h.safetensors", *FAST,
         "--views", 2, "--paste", 1, "--validation", 0.34)  # fmt: skip
    keys = [json.loads(line)["name"] for line in (tmp_path / "h_training/tokens/index.jsonl").read_text().splitlines()]
    assert len(seen) == 1 and len(set(seen[0])) == 4 and len(keys) == 12


def test_a_training_goes_on_only_as_it_began(scenes, tmp_path):
    two = few_classes(scenes, tmp_path)
    words = ["train", two, "--images", scenes / "photos", "-o", tmp_path / "h.safetensors", *FAST, "--validation", 0]
    call(*words)

    def refused(*more):
        result = CliRunner().invoke(app, [str(a) for a in [*words, *more]])
        assert isinstance(result.exception, ValueError) and "other settings" in str(result.exception)
        return str(result.exception)

    assert "augment: False there, True now" in refused("--augment")
    assert "dropout" in refused("--option", "dropout=0.5")
    path = two / "masks" / "p0.png"
    labels = np.asarray(Image.open(path)).copy()
    labels[:16] = 1
    write_label_png(labels, path)
    assert "targets: [" in refused()


def damaged(scenes, tmp_path):
    """The scenes with a cut mask, a cut picture and a picture of another size: p1, p2, p3."""
    folder = tmp_path / "damaged"
    shutil.copytree(scenes / "photos", folder / "photos")
    masks = few_classes(scenes, tmp_path)
    cut(masks / "masks" / "p1.png")
    cut(folder / "photos" / "p2.png")
    with Image.open(folder / "photos" / "p3.png") as image:
        image.resize((40, 30)).save(folder / "photos" / "p3.png")
    return masks, folder / "photos"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize("more", [("--views", 2, "--paste", 2), ("--augment",)], ids=["stored", "augment"])
def test_what_cannot_be_read_is_listed_and_the_rest_goes_on(scenes, tmp_path, more):
    masks, photos = damaged(scenes, tmp_path)
    said = call("train", masks, "--images", photos, "-o", tmp_path / "h.safetensors", *FAST, "--validation", 0, *more)
    assert "left out" in said and load_head(tmp_path / "h.safetensors")[1].training["pictures"] == 3
    with open(tmp_path / "h_training/errors.csv", newline="") as file:
        rows = {Path(row["image"].split("#")[0]).stem: row["message"] for row in csv.DictReader(file)}
    assert "p1.png" in rows["p1"] and "p2.png" in rows["p2"]
    assert "is 40 x 30 pixels, its mask 64 x 64; equal sizes" in rows["p3"]


def test_nothing_that_can_be_read(scenes, tmp_path):
    masks, photos = damaged(scenes, tmp_path)
    for path in masks.glob("masks/*.png"):
        cut(path)
    result = CliRunner().invoke(app, [str(a) for a in ("train", masks, "--images", photos, "-o",
                                tmp_path / "h.safetensors", *FAST)])  # fmt: skip
    assert "none of the 6 pictures can be used: cannot read" in str(result.exception)


def test_a_disk_that_is_too_small_for_the_tokens(scenes, tmp_path, monkeypatch):
    words = ["train", few_classes(scenes, tmp_path), "--images", scenes / "photos", "-o", tmp_path / "h.safetensors",
             *FAST, "--validation", 0]  # fmt: skip
    needed = 3 * (4 * 4 + 4 * 6) * 3 * 192 * 2  # three pictures of each size, three blocks of 192 channels, 2 bytes
    full = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr("clipseg_ws.run.training.data.shutil.disk_usage", lambda folder: full)
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert "the tokens need 0.0 GB more" in str(result.exception) and "--augment" in str(result.exception)
    monkeypatch.setattr("clipseg_ws.run.training.data.shutil.disk_usage", lambda folder: SimpleNamespace(free=needed))
    call(*words)


def test_a_class_without_pixels_is_found_before_tokens_are_made(scenes, tmp_path):
    masks = few_classes(scenes, tmp_path)
    (masks / "classes.txt").write_text("background\nodd\neven\nthird\n")
    result = CliRunner().invoke(app, [str(a) for a in ("train", masks, "--images", scenes / "photos", "-o",
                                tmp_path / "h.safetensors", *FAST)])  # fmt: skip
    assert "no pixel of third" in str(result.exception)
    assert not (tmp_path / "h_training" / "tokens").exists()


def test_sizes_in_headers(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    source = list_sources(str(path))[0]
    assert size_in_header(source) == read_image(source).size == (20, 40)
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="cannot read"):
        size_in_header(source)
    assert size_in_header(list_sources("https://example.org/a.jpg")[0]) is None


@pytest.mark.parametrize("scheme", ["rounds", "cotrain", "feedback"])
def test_schemes_that_make_masks_need_views_that_stay(scheme):
    with pytest.raises(ValueError, match="augment"):
        Recipe(scheme=scheme, augment=True)


# ---- files and the Segmenter ---------------------------------------------------------------------------------------


def test_train_predict_and_eval_by_the_command_line(scenes, tmp_path):
    file = tmp_path / "head.safetensors"
    two = few_classes(scenes, tmp_path)
    output = call("train", two, "--images", scenes / "photos", "-o", file, *FAST, "--validation", "0.3")
    assert "6 of 6 pictures have a mask; 2 classes" in output and "6 steps, mIoU" in output
    work = tmp_path / "head_training"
    assert (work / "log.csv").exists() and (work / "checkpoint.pt").exists() and list((work / "events").iterdir())
    module, card = load_head(file)
    assert card.classes == ("odd", "even") and card.backbone == "nano" and card.features.short_side == 64
    assert card.training["pictures"] == 4 and module.labels == 3
    call("predict", scenes / "photos" / "p0.png", "--head", file, "-o", tmp_path / "out", "--dtype", "float32")
    written = json.loads((tmp_path / "out" / "p0.json").read_text())
    assert written["names"] == ["odd", "even"] and written["setting"] == "head"
    assert written["config"]["model"] == "nano" and written["config"]["head"]["kind"] == "decoder"
    bigger = call("train", two, "--images", scenes / "photos", "-o", tmp_path / "wide.safetensors", *FAST,
                  "--more-scales", "0.5", "--augment")  # fmt: skip
    assert "6 steps" in bigger and load_head(tmp_path / "wide.safetensors")[1].features.more_scales == (0.5,)
    call("predict", scenes / "photos" / "p0.png", "--head", tmp_path / "wide.safetensors", "-o", tmp_path / "out-wide",
         "--dtype", "float32")  # fmt: skip
    again = call("train", two, "--images", scenes / "photos", "-o", file, *FAST, "--validation", "0.3")
    assert "6 steps" in again and len((work / "log.csv").read_text().splitlines()) == 7  # nothing was done twice
    root = tmp_path / "data"
    root.mkdir()
    (root / "images").symlink_to(scenes / "photos")
    (root / "masks").symlink_to(two / "masks")
    (root / "classes.yaml").write_text("classes: [odd, even]\n")
    call("eval", "folder", "--root", root, "--model", "nano", "--dtype", "float32", "--method", f"head:{file}",
         "-o", tmp_path / "results", "--limit", "2", "--gallery", "0")  # fmt: skip
    with open(tmp_path / "results" / "results.csv", newline="") as rows:
        (row,) = csv.DictReader(rows)
    assert row["method"] == f"head:{file}" and row["resize"] == "64" and float(row["mIoU"]) >= 0
    assert row["threshold"] == "head" and row["refine"] == "affinity+guided"


def test_from_tags_to_a_head(scenes, tmp_path):
    kept, tags = ("boat", "flower", "car", "sun"), tmp_path / "tags.csv"  # the tiny scenes show these
    with open(scenes / "tags.csv", newline="") as old, open(tags, "w", newline="") as new:
        for image, names in csv.reader(old):
            shown = names if names == "tags" else ";".join(name for name in names.split(";") if name in kept)
            csv.writer(new).writerow((image, shown))
    file = tmp_path / "head.safetensors"
    output = call("train", "--from-tags", tags, scenes / "photos", "-o", file, "-c", "; ".join(kept), *FAST,
                  "--weighting", "soft", "--validation", "0")  # fmt: skip
    assert "6 done" in output and load_head(file)[1].classes == kept


@pytest.fixture(scope="module")
def trained(scenes, nano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    call("train", few_classes(scenes, folder), "--images", scenes / "photos", "-o", folder / "head.safetensors", *FAST)
    return folder / "head.safetensors"


def test_head_in_the_segmenter(scenes, nano, trained):
    segment = nano.with_head(trained)
    pictures = [str(scenes / "photos" / f"p{i}.png") for i in range(3)]
    together = segment(pictures)
    assert [r.setting for r in together] == ["head"] * 3 and together[0].names == ("odd", "even")
    assert together[0].labels.shape == (64, 96) and together[1].labels.shape == (64, 64)
    alone = segment(pictures[2])
    assert (alone.labels != together[2].labels).mean() < 0.01
    assert 0 <= alone.confidence.min() <= alone.confidence.max() <= 1
    unspread = segment.variant(head_affinity=0.0)(pictures)
    assert any((a.labels != b.labels).any() for a, b in zip(together, unspread, strict=True))
    limited = segment(pictures[0], tags=["even"])
    assert set(np.unique(limited.labels)) <= {0, 2}
    turned = segment(pictures[0], classes="even; odd")
    swap = np.array([0, 2, 1])
    assert turned.names == ("even", "odd") and (swap[turned.labels] != together[0].labels).mean() < 0.01
    assert segment.variant(refine="guided").head is segment.head and segment.with_head(None).head is None
    with pytest.raises(ValueError, match="was not trained on that"):
        segment(pictures[0], classes="cat")
    with pytest.raises(ValueError, match="reads no words"):
        segment(pictures[0], background=["sky"])
    with pytest.raises(ValueError, match="takes no supports"):
        segment(pictures[0], supports=[Support(pictures[1], scenes / "masks" / "masks" / "p1.png", "odd")])


@pytest.mark.parametrize("refine", ["none", "guided"])
def test_a_head_where_there_is_no_background(scenes, nano, trained, refine):
    """As ``eval`` asks on data sets without background: the best class everywhere, also a single one."""
    segment = nano.with_head(trained).variant(refine=refine, keep_maps=True)
    filled = segment.variant(background_rule="constant", background_threshold=0.0)
    pictures = [str(scenes / "photos" / f"p{i}.png") for i in range(3)]
    for before, after in zip(segment(pictures), filled(pictures), strict=True):
        assert (before.labels == 0).any() and not (after.labels == 0).any()
    assert (filled(pictures[1], tags=["even"]).labels == 2).all()


def test_a_head_looks_again_at_other_sizes_and_the_mirror_image(scenes, nano, trained):
    bare = nano.with_head(trained).variant(affinity=False, keep_maps=True)
    pictures = [Image.open(scenes / "photos" / f"p{i}.png") for i in (0, 2)]
    turned = [ImageOps.mirror(picture) for picture in pictures]
    both = bare.variant(flip=True)
    for one, other in zip(both(pictures), both(turned), strict=True):
        assert np.allclose(one.extras["maps"], other.extras["maps"][..., ::-1], atol=1e-4)
    one, other = bare(pictures[0]), bare(turned[0])
    assert not np.allclose(one.extras["maps"], other.extras["maps"][..., ::-1], atol=1e-3)
    sized = bare.variant(scales=(0.75, 1.0, 1.5), flip=True)(pictures[0])
    maps, plain = sized.extras["maps"], one.extras["maps"]
    assert sized.labels.shape == (64, 96) and np.isfinite(maps).all() and not np.allclose(maps, plain)
    assert np.array_equal(bare.variant(scales=(1.0,))(pictures[0]).extras["maps"], plain)


def test_a_head_takes_smaller_batches_where_memory_runs_out(scenes, nano, trained, monkeypatch):
    pictures = [Image.open(path) for path in sorted((scenes / "photos").glob("*.png"))]
    want, sizes, encode = nano.with_head(trained)(pictures), [], nano.backbone.encode

    def small(pixels, **more):
        sizes.append(len(pixels))
        if len(pixels) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return encode(pixels, **more)

    monkeypatch.setattr(nano.backbone, "encode", small)
    got = nano.with_head(trained)(pictures)
    assert max(sizes) > 1 and sizes.count(1) == len(pictures)
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(want, got, strict=True))


def test_head_of_other_weights_is_refused(trained, tiny_backbone, tmp_path):
    with pytest.raises(ValueError, match="trained on 'nano'"):
        Segmenter(backbone=tiny_backbone, head=trained)
    with pytest.raises(FileNotFoundError, match="clipseg-ws train"):
        load_head(tmp_path / "none.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged"):
        load_head(tmp_path / "junk.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is no head"):
        load_head(tmp_path / "other.safetensors")
    module, card = load_head(trained)
    from dataclasses import replace

    with pytest.raises(ValueError, match="wrong number of classes"):
        save_head(tmp_path / "x.safetensors", module, replace(card, classes=("one",)))


# ---- masks and schemes ---------------------------------------------------------------------------------------------


def test_mask_folders(scenes, tmp_path):
    folder = open_masks(scenes / "masks")
    sources = list_sources(str(scenes / "photos"))
    targets = shrink_targets(map(folder.read, sources[:2]), [(4, 6), (4, 4)], 2)
    truth = np.asarray(Image.open(scenes / "masks" / "masks" / "p0.png"))
    assert targets.labels[0].shape == (8, 12) and (targets.confidence[0] == 255).all()
    assert targets.labels[0][3, 5] == truth[3 * 8 + 4, 5 * 8 + 4]
    with pytest.raises(FileNotFoundError, match=r"classes\.txt"):
        open_masks(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="'background' first"):
        open_masks(tmp_path)


@pytest.mark.parametrize(("refine", "wanted"), [("crf", 0.95), ("none", 0.8), ("guided", 0.5), ("", 0.5)])
def test_the_threshold_follows_the_masks(tmp_path, refine, wanted):
    (tmp_path / "classes.txt").write_text("background\ncat\n")
    if refine:
        (tmp_path / "settings.json").write_text(json.dumps({"settings": {"refine": refine}}))
    assert default_threshold(open_masks(tmp_path)) == wanted


@pytest.mark.parametrize("scheme", ["consistency", "rounds", "cotrain", "feedback"])
def test_schemes_by_the_command_line(scenes, tmp_path, scheme):
    more = ["--unlabelled", scenes / "photos"] if scheme == "cotrain" else []
    file = tmp_path / "head.safetensors"
    two = few_classes(scenes, tmp_path)
    call("train", two, "--images", scenes / "photos", "-o", file, *FAST, "--scheme", scheme, *more)
    assert load_head(file)[1].training["scheme"] == scheme
    if scheme == "consistency":
        with open(tmp_path / "head_training" / "log.csv", newline="") as rows:
            assert any(row["other"] for row in csv.DictReader(rows))


def test_feedback_targets_keep_to_the_tags(scenes, nano):
    sources = list_sources(str(scenes / "photos"))[:2]
    folder = open_masks(scenes / "masks")
    grids = [(4, 6), (4, 4)]
    blank = shrink_targets(map(folder.read, sources), grids, 4)

    class Data:
        def __init__(self):
            self.grids, self.blocks, self.width = grids, 2, 192

        def target(self, i):
            return blank.labels[i], blank.confidence[i]

    from clipseg_ws.heads import make_head

    head = make_head("decoder", 2, 192, len(KINDS) + 1, hidden=8)
    made = feedback_targets(nano, head.eval(), SPEC, KINDS, sources, Data(), blocks=3)
    for i in range(2):
        assert made.labels[i].shape == blank.labels[i].shape
        assert set(np.unique(made.labels[i])) <= {0, *np.unique(blank.labels[i])}


def test_adding_classes_keeps_the_old_ones(scenes, trained, tmp_path):
    masks = tmp_path / "new"
    for path in sorted((scenes / "masks" / "masks").glob("*.png")):
        labels = np.asarray(Image.open(path))
        write_label_png((labels > 6).astype(np.uint8), masks / "masks" / path.name)
    (masks / "classes.txt").write_text("background\nlater\n")
    file = tmp_path / "grown.safetensors"
    call("train", masks, "--images", scenes / "photos", "-o", file, *FAST, "--add-to", trained, "--lr", "1e-5")
    module, card = load_head(file)
    old, _ = load_head(trained)
    assert card.classes == ("odd", "even", "later") and module.labels == 4
    drift = (module.classify.weight[: 3 * 4] - old.classify.weight).abs().max()
    assert drift < 1e-3
    result = CliRunner().invoke(app, [str(a) for a in ("train", masks, "--images", scenes / "photos", "-o",
                                tmp_path / "x.safetensors", *FAST, "--add-to", file)])  # fmt: skip
    assert "among the old head's classes" in str(result.exception)


def test_added_classes_are_numbered_behind_the_old_ones_in_every_view(scenes, nano):
    """Labels move with the view that is being looked at, not with the picture as it is."""
    sources, folder = list_sources(str(scenes / "photos")), open_masks(scenes / "masks")
    views = Views(sources, folder, 1)
    data = AugmentedData(nano.backbone, SPEC, views.load, [(96, 64), (64, 64)] * 3, detail=2)
    before, after = data.batch([0, 2], (0, 1)), shifted(data, 5).batch([0, 2], (0, 1))
    assert torch.equal(before.features, after.features) and before.labels.max() > 0
    assert torch.equal(after.labels, before.labels + 5 * (before.labels > 0))
    labels = np.array([[0, 3, 255]], np.uint8)
    held = shifted(ArrayData(torch.zeros(1, 1, 1, 1, 3), [labels]), 200)
    assert held.target(0)[0].tolist() == [[0, 203, 255]] and held.batch([0], (0,)).labels.tolist() == [[[0, 203, 255]]]


def test_two_processes_through_accelerate_equal_one(scenes, tmp_path):
    pytest.importorskip("accelerate")
    two = few_classes(scenes, tmp_path)
    common = ["train", two, "--images", scenes / "photos", *FAST, "--validation", "0", "--device", "cpu",
              "--option", "dropout=0", "--work"]  # fmt: skip
    call(*common, tmp_path / "one", "-o", tmp_path / "one.safetensors")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    launch += ["-m", "clipseg_ws"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *map(str, common), str(tmp_path / "two"), "-o", str(tmp_path / "two.safetensors")],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]

    def losses(name):
        with open(tmp_path / name / "log.csv", newline="") as file:
            return [float(row["loss"]) for row in csv.DictReader(file)]

    assert losses("two") == pytest.approx(losses("one"), rel=1e-3)
    one, both = load_head(tmp_path / "one.safetensors")[0], load_head(tmp_path / "two.safetensors")[0]
    for a, b in zip(one.parameters(), both.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3)


def test_stored_data_reads_what_was_stored(scenes, nano, tmp_path):
    sources = list_sources(str(scenes / "photos"))
    names = [s.location for s in sources]
    store = TokenStore(tmp_path, nano.backbone, SPEC)
    store.build(names, lambda name: Image.open(name).convert("RGB"))
    grids = [store.entries[name].grid for name in names]
    data = StoredData(store, names, shrink_targets(map(open_masks(scenes / "masks").read, sources), grids, 2))
    batch = data.batch([0, 2], (0,))
    assert batch.features.shape == (2, 2, 192, *grids[0]) and batch.labels.shape == (
        2,
        grids[0][0] * 2,
        grids[0][1] * 2,
    )
    with pytest.raises(ValueError, match="uint8"):
        Targets([np.zeros((2, 2), np.int32)], [np.zeros((2, 2), np.uint8)])
