"""Frozen episode lists, drawing, and the few-shot data sets on tiny fixtures."""

from __future__ import annotations

import gzip

import layouts_eval as make
import numpy as np
import pytest
from PIL import Image

from clipseg_ws.eval.datasets.episodes import Episode, draw_episodes, draw_in_turn, read_episodes, write_episodes
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.guard import ProtocolViolation
from clipseg_ws.text.vocabulary import load_vocabulary


def test_the_recorded_lists_are_read(shared):
    files = sorted((shared / "golden" / "episodes").glob("*.csv.gz"))
    assert files
    for path in files:
        episodes = read_episodes(path)
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        assert len(episodes) == len(lines) - 1
        last = lines[-1].split(",")
        assert (episodes[-1].query, episodes[-1].supports[-1]) == (last[4], last[-1])
        assert (episodes[0].fold is None) == path.name.startswith("fss")


@pytest.mark.parametrize("name", ["list.csv", "list.csv.gz"])
def test_lists_are_written_back_as_they_were_read(tmp_path, name):
    episodes = (Episode(0, 7, "a b, c", ("d", "e"), 1), Episode(1, 5, "f", ("g", "g"), 1))
    write_episodes(tmp_path / name, episodes)
    assert read_episodes(tmp_path / name) == episodes
    first = (tmp_path / name).read_bytes()
    write_episodes(tmp_path / name, episodes)
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fold,shot,index,class_id,query\n0,1,0,0,a\n",
        "fold,shot,index,class_id,query,support_1\n",
        "fold,shot,index,class_id,query,support_1\n0,2,0,0,a,b\n",
        "fold,shot,index,class_id,query,support_1\n0,1,0,0,a,b\n1,1,1,5,a,b\n",
    ],
)
def test_other_lists_are_refused(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=r"expected|does not fit"):
        read_episodes(tmp_path / "x.csv")


def test_classes_take_turns():
    members = {3: ["a", "b", "c"], 8: ["d", "e", "b"]}
    episodes = draw_in_turn(members, 40, 2, seed=1)
    assert [e.class_id for e in episodes[:4]] == [3, 8, 3, 8] and [e.index for e in episodes] == list(range(40))
    assert {e.query for e in episodes} == {"a", "b", "c", "d", "e"}
    for e in episodes:
        assert {e.query, *e.supports} == set(members[e.class_id])  # two supports are all the others
    assert episodes == draw_in_turn(members, 40, 2, seed=1) != draw_in_turn(members, 40, 2, seed=2)
    with pytest.raises(ValueError, match="fewer than two pictures"):
        draw_in_turn({3: ["a"]}, 4, 1)


def test_a_class_must_cover_its_share_of_a_picture(tmp_path):
    make.voc(tmp_path, {"a": make.stripes(*[8] * 8), "b": make.stripes(*[0] * 7, 8), "c": make.stripes(0, 8)})
    few = load_dataset("voc-animals", tmp_path, setting="few-1", split="val", count=8, min_share=0.2, in_turn=True)
    assert {n for e in few.episodes for n in (e.query, *e.supports)} == {"a", "c"}
    assert few.notes["episodes"] == "drawn, seed 0, min_pixels 1, min_share 0.2, classes in turn"


def test_drawing_depends_on_the_arguments_only():
    members = {3: ["c", "a", "b"], 8: ["b", "d"]}
    episodes = draw_episodes(members, 12, 2, seed=5, fold=1)
    assert episodes == draw_episodes({8: ["d", "b"], 3: ["b", "c", "a"]}, 12, 2, seed=5, fold=1)
    assert episodes != draw_episodes(members, 12, 2, seed=6, fold=1)
    assert [(e.query, e.class_id) for e in episodes[:5]] == [("a", 3), ("b", 3), ("b", 8), ("c", 3), ("d", 8)]
    for e in episodes:
        assert e.query not in e.supports and set(e.supports) <= set(members[e.class_id])
        assert len(set(e.supports)) == (2 if e.class_id == 3 else 1)  # repeated only where there are too few
    # frozen: the same on every machine and with every library version
    assert [e.supports for e in episodes[:4]] == [("c", "b"), ("c", "a"), ("d", "d"), ("b", "a")]
    with pytest.raises(ValueError, match="fewer than two pictures"):
        draw_episodes({3: ["a"]}, 1, 1)


def voc_root(tmp_path):
    masks = {
        "2007_000001": make.stripes(0, 1, 255), "2007_000002": make.stripes(1, 1, 0),
        "2007_000003": make.stripes(2, 1, 0), "2007_000004": make.stripes(2, 6, 255),
    }  # fmt: skip
    return make.voc(tmp_path, masks)


@pytest.mark.parametrize("setting", ["few-1", "weak-few-1"])
def test_pascal5i_with_a_frozen_list(tmp_path, setting):
    root = voc_root(tmp_path)
    write_episodes(tmp_path / "e.csv", [Episode(0, 0, "2007_000001", ("2007_000002",), 0)])
    data = load_dataset("pascal5i", root, setting=setting, episodes=tmp_path / "e.csv")
    assert data.fold == 0 and data.classes == (0, 1, 2, 3, 4) and data.notes["episodes"] == "frozen list"
    assert data.class_names == load_vocabulary("voc").names[:5]
    assert np.array_equal(data.truth("00000"), make.stripes(0, 1, 255))  # 255 stays ignored
    sample = data.sample("00000")
    support = sample.supports[0]
    assert support.label == "aeroplane" and sample.classes.names == ("aeroplane",)
    if setting == "few-1":
        assert np.array_equal(support.mask, make.stripes(1, 1, 0))
    else:
        assert support.mask is None
    for read in (sample.labels.tags, sample.labels.masks, sample.labels.boxes):
        with pytest.raises(ProtocolViolation):
            read()


def test_pascal5i_draws_its_own_list(tmp_path):
    data = load_dataset("pascal5i", voc_root(tmp_path), setting="few-1", fold=0, count=7)
    assert len(data.ids) == 7 and {e.class_id for e in data.episodes} == {0, 1}  # bicycle: 3 and 4; bus is fold 1
    assert data.classes == (0, 1, 2, 3, 4)
    for e in data.episodes:
        assert (data.mask(e.query, e.class_id) == 1).any() and (data.mask(e.supports[0], e.class_id) == 1).any()


def test_lists_that_do_not_fit(tmp_path):
    root = voc_root(tmp_path)
    write_episodes(tmp_path / "e.csv", [Episode(0, 0, "2007_000001", ("2007_999999",), 0)])
    with pytest.raises(DatasetError, match="1 pictures of the list are not there"):
        load_dataset("pascal5i", root, setting="few-1", episodes=tmp_path / "e.csv")
    with pytest.raises(DatasetError, match="--fold 2 with a list of fold 0"):
        load_dataset("pascal5i", root, setting="few-1", fold=2, episodes=tmp_path / "e.csv")
    with pytest.raises(DatasetError, match="fold None; choose from 0, 1, 2, 3"):
        load_dataset("pascal5i", root, setting="few-1")
    write_episodes(tmp_path / "e.csv", [Episode(0, 0, "2007_000001", ("2007_000002",), 0)])
    with pytest.raises(DatasetError, match=r"'few-5' with a list of \[1\] shots"):
        load_dataset("pascal5i", root, setting="few-5", episodes=tmp_path / "e.csv")
    write_episodes(tmp_path / "e.csv", [Episode(0, 9, "2007_000001", ("2007_000002",), 0)])
    with pytest.raises(DatasetError, match=r"classes \[9\] of the list are not in"):
        load_dataset("pascal5i", root, setting="few-1", episodes=tmp_path / "e.csv")


def test_coco20i_takes_the_published_names(tmp_path):
    base = tmp_path / "COCO2014"
    names = ["COCO_val2014_000000000001", "COCO_val2014_000000000002"]
    for i, name in enumerate(names):
        make.picture(base / "val2014" / f"{name}.jpg", i)
        make.mask(base / "annotations" / "val2014" / f"{name}.png", make.stripes(0, 6))
    write_episodes(tmp_path / "e.csv.gz", [Episode(0, 5, f"val2014/{names[0]}.jpg", (f"val2014/{names[1]}.jpg",), 1)])
    data = load_dataset("coco20i", tmp_path, setting="few-1", episodes=tmp_path / "e.csv.gz")
    assert data.classes == tuple(range(1, 80, 4)) and data.fold == 1
    assert data.sample("00000").classes.names == ("bus",)
    assert np.array_equal(data.truth("00000"), make.stripes(0, 1))


def fss(root, classes=("abe's_flyingfish", "bus"), count=3):
    for word in classes:
        for i in range(1, count + 1):
            make.picture(root / word / f"{i}.jpg", i)
            make.mask(root / word / f"{i}.png", make.stripes(0, 255), palette=False)


@pytest.mark.parametrize("inside", ["", "FSS-1000", "fewshot_data/fewshot_data"])
def test_fss1000(tmp_path, inside):
    fss(tmp_path / inside)
    data = load_dataset("fss1000", tmp_path, setting="few-1")
    assert len(data.ids) == 6 and data.classes == (760, 761) and data.names[760] == "abe's flyingfish"
    assert np.array_equal(data.truth("00000"), make.stripes(0, 1)) and data.fold is None
    assert data.episodes[0].query.startswith("abe's_flyingfish/")
    with pytest.raises(DatasetError, match="no folds"):
        load_dataset("fss1000", tmp_path, setting="few-1", fold=0)


def test_fss1000_checks_the_files_of_its_list(tmp_path):
    fss(tmp_path)
    write_episodes(tmp_path / "e.csv", [Episode(0, 760, "bus/1.jpg", ("bus/10.jpg",))])
    with pytest.raises(DatasetError, match=r"2 files are missing.*10\.jpg"):
        load_dataset("fss1000", tmp_path, setting="few-1", episodes=tmp_path / "e.csv")


def test_queries_and_supports_at_the_protocol_size(tmp_path):
    from dataclasses import replace

    data = replace(load_dataset("pascal5i", voc_root(tmp_path), setting="few-1", fold=0, count=2), size=(20, 30))
    sample = data.sample("00000")
    assert sample.image.shape == (20, 30, 3) and sample.supports[0].mask.shape == (20, 30)
    small = data.mask(data.episodes[0].query, data.episodes[0].class_id)
    import torch

    large = torch.nn.functional.interpolate(torch.from_numpy(small)[None, None].float(), (20, 30), mode="nearest")
    assert np.array_equal(data.truth("00000"), large[0, 0].numpy().astype(np.uint8))


def test_episodes_over_scenes_and_folders(tmp_path):
    data = load_dataset("scenes", setting="few-2", count=4, size=64)
    assert len(data.ids) == 4 and data.setting.shots == 2
    for id in data.ids:
        assert (data.truth(id) == 1).any() and all((s.mask == 1).any() for s in data.sample(id).supports)
    make.plain(tmp_path, {"a": make.stripes(0, 1), "b": make.stripes(1, 2), "c": make.stripes(0, 2)})
    plain = load_dataset("folder", tmp_path, setting="few-1", count=4)
    assert {e.class_id for e in plain.episodes} == {0, 1}
    with Image.open(plain.sample("00000").image) as image:
        assert image.size == make.SIZE[::-1]
