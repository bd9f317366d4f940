"""Template experts: for each class the templates under which it is recognised most surely, found without labels.

FLOSS (Benigmim et al., "FLOSS: Free Lunch in Open-vocabulary Semantic Segmentation", ICCV 2025, arXiv 2504.10487): a
template is an expert for a class if the patches that it gives to the class have a low mean entropy. The paper runs
every expert as a classifier of its own and fuses their answers; here a class's word vector is the mean over its
experts' prompts, so that recognising costs what it costs without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.embeddings import EncodeText, embed_vocabulary

if TYPE_CHECKING:
    import torch

CHUNK = 65536  # patches whose probabilities are held at once


def class_entropy(patches: torch.Tensor, text: torch.Tensor, owner: torch.Tensor, scale: float) -> torch.Tensor:
    """Mean entropy of the softmax over all words at the patches that each class wins: [C] float32, nan for no patch.

    Args:
        patches: [M, E] unit vectors. text: [T, E] unit vectors of one template. owner: [T] class index, -1 background.
        scale: factor of the cosine.
    """
    import torch

    count = int(owner.max()) + 1
    total, won = torch.zeros(count + 1), torch.zeros(count + 1)
    for part in torch.split(patches, CHUNK):
        logs = (scale * part.float() @ text.float().T).log_softmax(-1)  # [m, T]
        entropy = -(logs.exp() * logs).sum(-1)
        winner = owner[logs.argmax(-1)] + 1  # 0: background
        total.index_add_(0, winner, entropy)
        won.index_add_(0, winner, torch.ones_like(entropy))
    return (total / won)[1:]  # 0 / 0 is nan


def choose_experts(entropies: torch.Tensor, top: int = 4) -> list[list[int]]:
    """[P, C] entropies of P templates -> for each class the ``top`` templates of lowest entropy, best first.

    Templates under which a class wins nothing (nan) are left out; a class that wins nothing anywhere has no expert.
    """
    order = entropies.nan_to_num(float("inf")).argsort(dim=0, stable=True)
    return [[p for p in order[:top, c].tolist() if not entropies[p, c].isnan()] for c in range(entropies.shape[1])]


def template_experts(
    patches: torch.Tensor,
    encode_text: EncodeText,
    vocabulary: Vocabulary,
    templates: Sequence[str],
    logit_scale: float = 100.0,
    *,
    top: int = 4,
    weights_key: str | None = None,
    cache_dir: str | Path | None = None,
) -> Vocabulary:
    """The vocabulary with every class's experts as its own prompts (classes without patches keep the templates).

    Args:
        patches: [M, E] unit patch embeddings of unlabelled pictures of the kind to be segmented.
        templates: candidates, each tried alone. top: experts a class.
        weights_key, cache_dir: see ``embed_vocabulary``.

    Raises:
        ValueError: no template, or ``top`` below 1.
    """
    import torch

    if isinstance(templates, str) or not templates or top < 1:
        raise ValueError(f"{len(templates)} templates, top={top}; give a list of at least one, and top from 1, e.g. 4")
    rows = []
    for template in templates:
        alone = replace(vocabulary, templates=(template,), prompts=())
        text = embed_vocabulary(alone, encode_text, weights_key=weights_key, cache_dir=cache_dir)
        rows.append(class_entropy(patches.cpu(), text.vectors, text.owner, logit_scale))
    experts = choose_experts(torch.stack(rows), top)
    return replace(vocabulary, prompts=tuple(tuple(templates[p] for p in mine) for mine in experts))
