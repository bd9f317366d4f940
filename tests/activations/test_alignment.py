"""The alignment check: a support like the query is recovered, another is not, absent classes do no harm."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.activations.alignment import check_alignment, query_prototypes, support_weights


def scene(where: slice, thing: torch.Tensor, ground: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [D, 4, 6] with ``thing`` in some columns, and the mask [4, 6]."""
    mask = torch.zeros(4, 6)
    mask[:, where] = 1
    return thing[:, None, None] * mask + ground[:, None, None] * (1 - mask), mask


E = torch.eye(4)


def test_good_and_bad_supports():
    query, labels = scene(slice(0, 2), E[0], E[1])
    good, good_mask = scene(slice(3, 6), E[0], E[1])
    bad, bad_mask = scene(slice(1, 3), E[1], E[0])  # its mask is the wrong way round
    support, masks = torch.stack([good, bad]), torch.stack([good_mask, bad_mask])
    found = check_alignment(
        query[None].repeat(2, 1, 1, 1), labels[None].long().repeat(2, 1, 1), support, masks, 1 - masks,
        torch.tensor([0, 0]), count=2,
    )  # fmt: skip
    assert found.iou.shape == (2, 2) and found.logits.shape == (2, 2, 2, 4, 6)
    assert torch.allclose(found.iou, torch.tensor([[1.0, 0.0]] * 2))
    assert (found.loss[:, 0] < 0.01).all() and (found.loss[:, 1] > 5).all()
    assert torch.equal(support_weights(found.iou, torch.tensor([0, 0])), torch.tensor([[1.0, 0.0]] * 2))


def test_ignored_pixels_and_absent_classes():
    query, labels = scene(slice(0, 2), E[0], E[1])
    support, mask = scene(slice(3, 6), E[0], E[1])
    support[:, 0, 0] = E[0]  # a wrong pixel ...
    background = 1 - mask
    args = (query[None], labels[None].long(), support[None], mask[None])
    counted = check_alignment(*args, background[None], torch.tensor([0]), count=3)
    background[0, 0] = 0  # ... that no mask claims
    ignored = check_alignment(*args, background[None], torch.tensor([0]), count=3)
    assert counted.iou[0, 0] < 1 and ignored.iou[0, 0] == 1
    absent = check_alignment(*args, background[None], torch.tensor([2]), count=3)
    assert not absent.present[0, 0] and absent.iou[0, 0] == 0
    assert torch.equal(support_weights(absent.iou, torch.tensor([2])), torch.ones(1, 1))  # nothing to prefer


def test_query_prototypes_of_absent_labels_are_zero():
    query, labels = scene(slice(0, 2), E[0], E[1])
    got = query_prototypes(query[None], labels[None].long(), 2)[0]
    assert torch.allclose(got, torch.stack([E[1], E[0], torch.zeros(4)]), atol=1e-4)


def test_out_of_range():
    query, labels = scene(slice(0, 2), E[0], E[1])
    with pytest.raises(ValueError, match="count=1"):
        check_alignment(
            query[None], labels[None].long(), query[None], labels[None], 1 - labels[None], torch.tensor([1]), count=1
        )


def test_weights_are_relative_to_the_best_of_the_class():
    iou = torch.tensor([[0.8, 0.4, 0.2]])
    assert torch.allclose(support_weights(iou, torch.tensor([0, 0, 1])), torch.tensor([[1.0, 0.5, 1.0]]))
    assert torch.allclose(
        support_weights(iou, torch.tensor([0, 0, 1]), sharpness=2.0), torch.tensor([[1.0, 0.25, 1.0]])
    )
