"""Word scores to class probabilities and labels, against plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.activations.textscores import class_labels, class_probabilities, drop_small_classes


def test_class_probabilities_take_the_best_word_of_each_class():
    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([2, 0, -1, 2, -1])  # class 1 has no word
    got = class_probabilities(logits, owner, 3, 7.0)
    words = (7 * logits).softmax(1)
    assert got.shape == (2, 4, 3, 4)
    torch.testing.assert_close(got[:, 0], torch.maximum(words[:, 2], words[:, 4]))
    torch.testing.assert_close(got[:, 1], words[:, 1])
    assert got[:, 2].abs().max() == 0
    torch.testing.assert_close(got[:, 3], torch.maximum(words[:, 0], words[:, 3]))
    with pytest.raises(ValueError, match="one index"):
        class_probabilities(logits, owner, 2, 7.0)


def test_area_rule_treats_each_image_alone_and_threshold_gives_background():
    probabilities = torch.zeros(2, 3, 1, 10)
    probabilities[:, 0] = 0.2
    probabilities[0, 1, 0, :6] = 0.9
    probabilities[0, 2, 0, 6:7] = 0.9  # 1 of 7 foreground pixels
    probabilities[1, 2, 0, :3] = 0.4  # all foreground of the second image
    kept = drop_small_classes(probabilities, 0.2)
    assert kept[0, 2].max() == 0 and torch.equal(kept[0, 1], probabilities[0, 1])
    assert torch.equal(kept[1], probabilities[1])
    labels = class_labels(kept, 0.5)
    assert labels[0, 0].tolist() == [1] * 6 + [0] * 4 and labels[1].max() == 0


def test_words_of_absent_classes_leave_the_softmax():
    logits = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(1))
    owner = torch.tensor([0, 1, 1, -1])
    allowed = torch.tensor([[True, False], [False, False]])
    got = class_probabilities(logits, owner, 2, 5.0, allowed)
    torch.testing.assert_close(got[0, [1, 0]], (5 * logits[0, [0, 3]]).softmax(0))
    assert got[0, 2].abs().max() == 0
    torch.testing.assert_close(got[1, 0], torch.ones(2, 3))
    nobody = class_probabilities(logits[:, :3], owner[:3], 2, 5.0, allowed)
    assert torch.equal(nobody[1], torch.zeros(3, 2, 3))
