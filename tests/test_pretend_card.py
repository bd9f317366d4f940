"""On a pretend card (``pretend.py``): every method, step, refiner and head answers as on the CPU, and a further picture
of a batch costs hardly an operator and no wait. The limits stand where the code stands; whoever needs more says why."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import save_tiny_hybrid
from pretend import pretend_card

from clipseg_ws import Segmenter, Support
from clipseg_ws.config import METHODS, STEPS, resolve
from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.file import HeadCard, save_head
from clipseg_ws.refine import REFINERS
from clipseg_ws.stages.dense import reads_second
from clipseg_ws.structures import WeakLabels

SIDE, BATCH = 96, 16
SCENES = [draw_scene(seed, SIDE) for seed in range(BATCH)]
PICTURES, TAGS = [scene.image for scene in SCENES], [list(scene.tags) for scene in SCENES]
NAMES = list(KINDS)
SMALL = {"hidden": 8, "depth": 1, "upsample": 2, "dropout": 0.0}
SIZES = {"short_side": SIDE, "batch_size": BATCH}


@pytest.fixture(scope="module")
def pair():
    """The same model on the CPU and on the card, and the card."""
    with pretend_card() as card:
        yield *(Segmenter("nano", device=device, dtype="float32", **SIZES) for device in ("cpu", "cuda")), card


def supports() -> list[Support]:
    """Two examples of classes that the scenes show."""
    shown = [(scene, scene.tags[0]) for scene in (draw_scene(900 + i, SIDE) for i in range(8)) if scene.tags][:2]
    return [Support(s.image, (s.labels == KINDS.index(kind) + 1).astype(np.uint8), kind) for s, kind in shown]


def box(scene) -> WeakLabels:
    """A box round the first thing of a scene."""
    kind = scene.tags[0]
    rows, columns = np.nonzero(scene.labels == KINDS.index(kind) + 1)
    corners = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    return WeakLabels(boxes=((kind, *corners),))


def ask(segment: Segmenter, kind: str):
    """(pictures counted) -> results, for a question that was asked before."""
    asked = {
        "names": {"classes": NAMES}, "tags": {"classes": NAMES}, "boxes": {"classes": NAMES}, "head": {},
        "supports": {"supports": supports()}, "names and supports": {"classes": NAMES, "supports": supports()},
    }  # fmt: skip
    question = segment.ask(**asked[kind])

    def answer(count: int):
        known = {"tags": {"tags": TAGS[:count]}, "boxes": {"marks": [box(scene) for scene in SCENES[:count]]}}
        return segment.answer(question, PICTURES[:count], **known.get(kind, {}))

    return answer


def same(pair, kind, count=4, **settings):
    """Labels and confidence of both devices are equal."""
    want, got = (ask(segment.variant(**SIZES | settings), kind)(count) for segment in pair[:2])
    for mine, its in zip(got, want, strict=True):
        assert mine.names == its.names and np.array_equal(mine.labels, its.labels)
        assert np.allclose(mine.confidence, its.confidence, atol=1e-4)
    return got


@pytest.mark.parametrize("kind", ["names", "tags", "boxes", "supports", "names and supports"])
def test_every_question_is_answered_as_on_the_cpu(pair, kind):
    assert any(result.labels.any() for result in same(pair, kind))


def follows(method: str) -> bool:
    """Whether the method reads a second vision model."""
    return reads_second(resolve(method, {}))


@pytest.mark.parametrize("method", [name for name in METHODS if not follows(name)])
def test_every_method_answers_as_on_the_cpu(pair, method):
    same(pair, "supports" if method in ("prototypes", "matcher", "gf-sam") else "names", method=method)


@pytest.mark.parametrize("method", [name for name in METHODS if follows(name)])
def test_a_second_model_answers_as_on_the_cpu(pair, tmp_path, method):
    save_tiny_hybrid(tmp_path / "saved")
    given = {"dtype": "float32", "features": f"local-dir:{tmp_path / 'saved'}:stem", "method": method} | SIZES
    twins = [Segmenter("nano", device=device, **given) for device in ("cpu", "cuda")]
    same((*twins, pair[2]), "names")


@pytest.mark.parametrize("step", STEPS)
def test_every_step_answers_as_on_the_cpu(pair, step):
    about, given = STEPS[step].about, {step: True}
    if about.get("regions"):
        given["regions"] = "grow"
    if step == "looks":
        given = {"looks.flip": True, "looks": True}
    if about["when"] == "matching":
        same(pair, "names and supports" if step == "known" else "supports", **given)
    elif about["when"] == "dense":
        same(pair, "names", method="maskclip", **given)
    else:
        same(pair, "tags", **given)


@pytest.mark.parametrize("refiner", [name for name in REFINERS if not REFINERS[name].about.get("network")])
def test_every_refiner_answers_as_on_the_cpu(pair, refiner):
    for module, _ in [REFINERS[refiner].needs] if REFINERS[refiner].needs else []:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    same(pair, "tags", refine=refiner)


def test_an_answer_by_a_head_is_the_cpus_and_further_pictures_cost_hardly_anything(pair, tmp_path):
    file = saved_head(pair[0], tmp_path)
    twins = [segment.with_head(file) for segment in pair[:2]]
    assert any(result.labels.any() for result in same((*twins, pair[2]), "head"))
    check_limits(twins[1].variant(**SIZES), "head", pair[2], (4, 0.5, 0, 3))


def saved_head(segment: Segmenter, folder):
    """An untrained head of nano: what it answers means nothing, both devices must say the same."""
    spec = FeatureSpec(blocks=(-1, 1), short_side=SIDE)
    backbone = segment.backbone
    module = make_head("decoder", 2, backbone.width, 3, seed=0, **SMALL)
    card = HeadCard(
        backbone=backbone.name, weights_sha256=backbone.weights_sha256, kind="decoder", options=SMALL,
        classes=("house", "tree"), width=backbone.width, features=spec, training={},
    )  # fmt: skip
    save_head(folder / "head.safetensors", module, card)
    return folder / "head.safetensors"


# ---- limits ----------------------------------------------------------------------------------------------------------

# those of a matching belong to the limits of examples; regions are cut picture by picture
PER_BATCH = [
    name
    for name, entry in STEPS.items()
    if entry.about["when"] in ("tokens", "dense", "graph", "maps") and not entry.about.get("regions")
]
# per further picture: operators on host or card, launches on the card, waits; then waits of the whole batch
LIMITS = {
    ("tags", "default", "none"): (4, 0.5, 0, 2),
    ("tags", "default", "guided"): (4, 0.5, 0, 2),
    ("names", "default", "none"): (4, 0.5, 0, 5),
    ("names", "default", "guided"): (4, 0.5, 0, 5),
    ("tags", "cam", "none"): (4, 0.5, 0, 1),
    ("tags", "clip-es", "none"): (4, 0.5, 0, 2),
    ("names", "maskclip", "none"): (4, 0.5, 0, 1),
    ("tags", "sclip", "none"): (4, 0.5, 0, 1),
    ("names", "naclip", "pamr"): (4, 0.5, 0, 2),
    ("supports", "default", "guided"): (4, 0.5, 0, 3),
    ("names and supports", "default", "guided"): (4, 0.5, 0, 7),
}


@pytest.mark.parametrize(("kind", "method", "refiner"), LIMITS)
def test_a_further_picture_costs_hardly_anything(pair, kind, method, refiner):
    _, segment, card = pair
    limits = LIMITS[kind, method, refiner]
    check_limits(segment.variant(method, refine=refiner, **SIZES), kind, card, limits)


@pytest.mark.parametrize("step", PER_BATCH)
def test_a_further_picture_costs_hardly_anything_in_any_step(pair, step):
    """Dense ones with the method that reads them."""
    dense = STEPS[step].about["when"] == "dense"
    settings = {"method": "maskclip"} if dense else {"refine": "none"}
    check_limits(
        pair[1].variant(**SIZES | settings | {step: True}), "names" if dense else "tags", pair[2], (4, 0.5, 0, 4)
    )


@pytest.mark.parametrize("refiner", [n for n, e in REFINERS.items() if not e.needs and not e.about.get("network")])
def test_a_further_picture_costs_hardly_anything_in_any_refiner(pair, refiner):
    """Those of other packages work on the host, picture by picture."""
    check_limits(pair[1].variant(**SIZES, refine=refiner), "tags", pair[2], (4, 0.5, 0, 2))


def check_limits(segment, kind, card, limits):
    """Half a batch and a whole one, counted."""
    answer = ask(segment, kind)
    answer(BATCH)  # the question is read once
    seen = []
    for count in (BATCH // 2, BATCH):
        card.forget()
        answer(count)
        seen.append((card.operators.total(), card.launches.total(), card.waits.total()))
    further = [(more - less) / (BATCH - BATCH // 2) for less, more in zip(*seen, strict=True)]
    operators, launches, waits, whole = limits
    assert further[0] <= operators and further[1] <= launches and further[2] <= waits, further
    assert seen[1][2] <= whole, card.waits
    assert len(card.launches) > 20  # something was counted


def test_weights_are_hashed_before_they_move(pair):
    card = pair[2]
    segment = Segmenter("nano", device="cuda", dtype="float32")
    card.forget()
    assert segment.backbone.weights_sha256 == pair[0].backbone.weights_sha256 and not card.waits


# ---- the card itself -------------------------------------------------------------------------------------------------


def test_the_card_counts_and_refuses():
    with pretend_card() as card:
        x = torch.arange(6.0).to("cuda").reshape(2, 3)
        assert x.device == torch.device("cuda:0") and x.is_cuda and "OnCard" in repr(x)
        card.forget()
        y = x.t()[1:] + 1  # two views, one kernel
        assert card.operators.total() == 3 and card.launches.total() == 1 and not card.waits
        reads = (
            lambda: float(y.sum()), lambda: y.cpu(), lambda: y[y > 2], lambda: y.nonzero(), lambda: y.tolist(),
            lambda: bool((y > 2).any()), lambda: torch.equal(y, y), lambda: torch.cuda.synchronize(),
        )  # fmt: skip
        for number, read in enumerate(reads, 1):
            read()
            assert card.waits.total() == number
        moved = y.to("cpu", non_blocking=True)
        assert card.waits.total() == len(reads) and moved.device.type == "cpu"
        for wrong in (lambda: x + torch.ones(2, 3), lambda: torch.ones(6)[x.long()], lambda: np.asarray(x)):
            with pytest.raises((RuntimeError, TypeError), match=r"cuda:0|cpu"):
                wrong()
        assert (torch.tensor([1, 2], device=x.device) + torch.as_tensor([3, 4], device="cuda")).tolist() == [4, 6]
        assert x.new_tensor([1.0]).is_cuda and torch.zeros(2, device="cuda").is_cuda
