"""Pictures, labels and words of photo's training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from photo_folders import WORDNET, make_folders
from PIL import Image

from clipseg_ws.embedded.photo import data
from clipseg_ws.embedded.photo.concepts import VOC, concept_names, object_labels
from clipseg_ws.embedded.photo.data import classes_in, draw, load_pool, patch_shares, set_aside, view, voc_items
from clipseg_ws.embedded.photo.lexicon import MOST_KINDS, build_lexicon, plain
from clipseg_ws.embedded.photo.objective import Words
from clipseg_ws.embedded.photo.texts import plural
from clipseg_ws.embedded.photo.wordnet import WordNet


def test_a_pool_holds_labels_and_no_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SET_ASIDE", 2)
    voc, small, objects = make_folders(tmp_path)
    pool = load_pool(voc, small, objects)
    aside = set_aside(small)
    assert len(aside) == 2 and all(set(classes_in(small / f"masks/{s}.png")) & {7, 9, 11, 12, 14, 16} for s in aside)
    stems = [item.path.stem for item in pool.items[: pool.voc]]
    assert not set(stems) & {*aside, "v0", "v1", "v2"} and len(stems) == len(set(stems)) == 8 + 2 - 2
    assert pool.present.shape == pool.known.shape == (pool.voc + 7, len(pool.names))
    assert (pool.known[: pool.voc, len(VOC) :] == 0).all() and (pool.present <= pool.known).all()
    dalmatian = next(i for i, item in enumerate(pool.items) if item.path.parent.name == "dalmatian")
    names = {pool.names[j] for j in torch.nonzero(pool.present[dalmatian]).flatten().tolist()}
    assert names == {"dog", "dalmatian"} and pool.known[dalmatian, VOC.index("person")] == 0
    ground = next(i for i, item in enumerate(pool.items) if item.path.parent.name == "BACKGROUND_Google")
    assert pool.present[ground].sum() == 0 and pool.known[ground, : len(VOC)].sum() == 0


def test_val_never_enters(tmp_path: Path) -> None:
    voc, small, _ = make_folders(tmp_path)
    (voc / "ImageSets/Segmentation/val.txt").write_text("t1\n")
    with pytest.raises(ValueError, match="t1"):
        voc_items(voc, small)


def test_masks_are_asked_for_classes_only(tmp_path: Path) -> None:
    file = tmp_path / "m.png"
    Image.fromarray(np.array([[0, 3, 255], [20, 3, 0]], np.uint8)).save(file)
    assert classes_in(file) == (2, 19)


@given(st.integers(0, 50), st.integers(1, 40), st.integers(2, 9))
def test_every_round_shows_each_picture_once(start: int, count: int, size: int) -> None:
    got = draw((7, 1), 5, 5 + size, start, count)
    again = [draw((7, 1), 5, 5 + size, start + i, 1)[0] for i in range(count)]
    assert got == again
    first = draw((7, 1), 5, 5 + size, 0, size)
    assert sorted(first) == list(range(5, 5 + size))


def test_a_view_moves_mask_and_picture_alike() -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[20:70, 30:90] = 15
    picture = Image.fromarray(np.repeat((mask > 0)[..., None] * 255, 3, 2).astype(np.uint8))
    for seed in range(8):
        pixels, cells = view(picture, mask, 128, 0.5, np.random.default_rng(seed))
        assert pixels.shape == (3, 128, 128) and cells.shape == (32, 32)
        bright = torch.nn.functional.avg_pool2d(pixels.mean(0)[None, None], 4)[0, 0]
        middle = (bright.max() + bright.min()) / 2
        assert ((bright > middle) == (cells == 15)).float().mean() > 0.95


def test_without_a_mask_nothing_is_known() -> None:
    _, cells = view(Image.new("RGB", (60, 40)), None, 64, 0.35, np.random.default_rng(0))
    assert (cells == 255).all()
    assert patch_shares(cells[None], 20).sum() == 0


def test_shares_against_counting() -> None:
    cells = torch.randint(0, 5, (2, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    cells[0, :2] = 255
    got = patch_shares(cells, 20)
    for b in range(2):
        for y in range(2):
            for x in range(2):
                patch = cells[b, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
                for label in range(21):
                    assert got[b, 2 * y + x, label] == (patch == label).sum() / 16


def test_names_of_folders() -> None:
    names = concept_names(["dog", "Faces", "sea_horse", "BACKGROUND_Google", "cougar_face", "cougar_body"])
    assert names[:20] == list(VOC) and names[20:] == ["cougar", "face", "sea horse"]
    assert object_labels("Faces", names) == ((VOC.index("person"), names.index("face")), ())
    assert object_labels("cougar_body", names) == ((names.index("cougar"),), (VOC.index("cat"), VOC.index("person")))


def test_wordnet(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(WORDNET)
    nouns = WordNet(tmp_path)
    assert nouns.names("02084071") == ("dog", "domestic dog")
    assert nouns.above("02084071") == {"02084071", "02083346", "00015388", "00001740"}
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        WordNet(tmp_path / "nowhere")


def test_general_words_are_means_and_first_meanings_stay() -> None:
    folder = Path("/usr/share/wordnet")
    if not (folder / "data.noun").is_file():
        pytest.skip("Debian's wordnet-base is not installed")
    generator = torch.Generator().manual_seed(0)
    rows = [torch.nn.functional.normalize(torch.randn(n, 32, generator=generator), dim=-1) for n in (21, 25, 1, 1000)]
    book = build_lexicon(Words(*rows), [*VOC, "umbrella"], WordNet(folder))
    assert torch.equal(book.targets["puppy"], book.targets["dog"]) and "animal" in book.general
    assert torch.equal(book.targets["umbrella"], rows[0][20])
    assert len({*book.background}) == 25 and not {*book.names} & {*book.general}
    assert book.kinds["animal"][:6] == ["bird", "cat", "cow", "dog", "horse", "sheep"]
    assert len(book.kinds["animal"]) == MOST_KINDS and "cocker spaniel" in book.kinds["spaniel"]
    every = {name for names in book.kinds.values() for name in names}
    assert {*book.kinds} <= {*book.general} and every <= {*book.names}


@pytest.mark.parametrize(("one", "several"), [("cat", "cats"), ("fox", "foxes"), ("lady", "ladies"), ("toy", "toys")])
def test_plurals(one: str, several: str) -> None:
    assert plural(one) == several
    assert plain("Ram (adult  male)") == "ram"
