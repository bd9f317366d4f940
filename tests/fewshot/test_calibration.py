"""How much a name counts is what it does on the examples that are left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clipseg_ws.fewshot.bank import BankEntry, SupportBank
from clipseg_ws.fewshot.calibration import name_evidence, name_weights
from clipseg_ws.fewshot.matcher import FewShotMatcher
from clipseg_ws.fewshot.options import FewShotConfig
from clipseg_ws.structures import TextEmbeddings, Vocabulary

CONFIG = FewShotConfig(text_weight=0.3, calibrate=True)
WORDS = Vocabulary(("cat", "dog"), (("cat",), ("dog",)), ("wall",))
TEXT = TextEmbeddings(torch.eye(3), torch.tensor([0, 1, -1]), WORDS)
MASK = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0]])


def entry(seed: int, look_alike: bool, named: bool, predicted: bool = False) -> BankEntry:
    """An example whose features tell class from ground, or not; the same of its values and the word "cat"."""
    noise = torch.randn(4, 2, 4, generator=torch.Generator().manual_seed(seed))
    features = torch.stack([MASK, 1 - MASK, MASK * 0, MASK * 0]) + 0.1 * noise if look_alike else noise
    said = MASK if named else 1 - MASK
    values = torch.stack([said, said * 0, 1 - said])
    return BankEntry("cat", f"{seed}.jpg", {"input": features, "values": values}, MASK, 1 - MASK, predicted)


def weights(*entries: BankEntry, kinds: tuple[str, ...] = ("input", "values"), text: TextEmbeddings = TEXT) -> list:
    bank = SupportBank(entries, kinds, "m", "bicubic", "0" * 64)
    return name_weights(FewShotMatcher(bank, CONFIG), (0,), text, 20.0).tolist()


def test_a_name_counts_where_it_does_better_than_the_examples():
    assert weights(*(entry(i, False, True) for i in range(3)))[0] > CONFIG.text_weight
    assert weights(*(entry(i, True, False) for i in range(3)))[0] == 0
    assert weights(*(entry(i, True, True) for i in range(3)))[0] == 0  # nothing to gain


@pytest.mark.parametrize("case", ["one", "predicted", "no values", "no background"])
def test_where_nothing_can_be_left_out_the_setting_stays(case):
    entries = [entry(i, False, True, case == "predicted") for i in range(1 if case == "one" else 3)]
    kinds = ("input",) if case == "no values" else ("input", "values")
    none = TextEmbeddings(torch.eye(3)[:2], torch.tensor([0, 1]), replace(WORDS, background=()))
    got = weights(*entries, kinds=kinds, text=none if case == "no background" else TEXT)
    assert got == pytest.approx([0.3, 0.3])


def test_evidence_is_the_share_of_the_softmax():
    values = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1))
    unit = values / values.norm(dim=0)
    shares = (5 * unit)[[0, 2]].softmax(0)  # "cat" and "wall"; other names do not compete
    assert torch.allclose(name_evidence(values, TEXT, 0, 5.0), (shares[0] / shares[1]).log(), atol=1e-5)
