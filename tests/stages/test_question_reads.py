"""Which settings a question looks at: examples alone read nothing of the names, names alone nothing of the examples."""

from __future__ import annotations

import pytest

from clipseg_ws.stages.by_maps import question_reads
from clipseg_ws.stages.question import Question
from clipseg_ws.structures import Vocabulary

WORDS = Vocabulary(("cat",), (("cat",),), ())
OF_NAMES = ("competition", "competition.weight", "outliers", "outliers.share", "pool", "activation", "templates")
OF_EXAMPLES = ("fewshot.text_weight", "fewshot.prior", "parts", "parts.count", "vote")
OF_BOTH = ("affinity", "affinity.threshold", "refine", "min_area", "presence", "saliency.weight")


@pytest.mark.parametrize(
    ("text", "examples", "read", "not_read"),
    [
        (None, "bank", (*OF_EXAMPLES, *OF_BOTH), OF_NAMES),
        ("words", None, (*OF_NAMES, *OF_BOTH), OF_EXAMPLES),
        ("words", "bank", (*OF_NAMES, *OF_EXAMPLES, *OF_BOTH), ()),
    ],
    ids=["examples alone", "names alone", "both"],
)
def test_settings_and_their_parameters_go_together(text, examples, read, not_read):
    reads = frozenset({*OF_NAMES, *OF_EXAMPLES, *OF_BOTH})
    assert question_reads(reads, Question(WORDS, text, examples)) == set(read) == reads - set(not_read)
