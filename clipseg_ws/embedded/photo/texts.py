"""The last part of the training: the text tower learns to say, in any template, the vectors that words stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor, nn

from clipseg_ws.embedded.losses import text_walk
from clipseg_ws.embedded.photo.concepts import VOC
from clipseg_ws.embedded.photo.lexicon import BACKGROUND, Lexicon

COMMON = ("{}", "{}.", "a {}", "a photo of a {}.", "a photo of the {}.", "a clean origami {}.", "a picture of a {}.")
TEMPLATES = COMMON + tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
SCALE = 30.0  # of the cosine in the softmax over all targets


@dataclass(frozen=True)
class TextConfig:
    """Steps, of them the last ``close`` with the cosine alone, phrases a step (``own`` of them VOC's and background
    words), unknown words, peak learning rates of both parts."""

    steps: int = 3800
    close: int = 800
    batch: int = 256
    own: int = 64
    noise: int = 48
    lr: float = 4e-3
    close_lr: float = 1.5e-3
    seed: int = 0


def phrase_rows(book: Lexicon) -> tuple[list[str], Tensor, Tensor]:
    """(phrases, index of each phrase's target [n], distinct targets [m, E])."""
    phrases = list(book.targets)
    targets, index = torch.unique(torch.stack([book.targets[p] for p in phrases]), dim=0, return_inverse=True)
    return phrases, index, targets


def plural(phrase: str) -> str:
    """Several of it: "cats", "foxes", "ladies"."""
    if phrase.endswith("y") and phrase[-2:-1] not in "aeiou":
        return phrase[:-1] + "ies"
    return phrase + ("es" if phrase.endswith(("s", "x", "z", "ch", "sh")) else "s")


def unknown_words(rng: np.random.Generator, count: int, pieces: list[str], known: set[str]) -> list[str]:
    """One to three random pieces of the tokenizer's vocabulary, as text; none that is known."""
    words = []
    while len(words) < count:
        parts = [pieces[int(i)] for i in rng.integers(len(pieces), size=int(rng.integers(1, 4)))]
        text = ("" if rng.random() < 0.3 else " ").join(parts)
        if text not in known:
            words.append(text)
    return words


def plain_pieces(tokenizer: Any) -> list[str]:
    """Entries of CLIP's tokenizer that are plain lower-case words or pieces, without the end mark."""
    pieces = [piece.removesuffix("</w>") for piece in tokenizer.encoder]
    return [piece for piece in pieces if piece.isascii() and piece.isalpha() and len(piece) > 2]


def prompts_of(rng: np.random.Generator, phrases: list[str]) -> list[str]:
    """Each phrase in a random template, sometimes as several, sometimes with a capital letter."""
    prompts = []
    for phrase in phrases:
        word = plural(phrase) if rng.random() < 0.15 else phrase
        shelf = COMMON if rng.random() < 0.5 else TEMPLATES
        prompts.append(str(rng.choice(shelf)).format(word))
    return prompts


def text_parameters(model: Any) -> list[nn.Parameter]:
    """The parameters of the text tower."""
    return [p for n, p in model.named_parameters() if not n.startswith("visual.") and n != "logit_scale"]


def initialise(model: Any) -> None:
    """Small random token embeddings and positions."""
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    nn.init.normal_(model.positional_embedding, std=0.01)


def train_texts(
    model: Any, tokenizer: Any, book: Lexicon, other: Tensor, config: TextConfig, tell: Callable[[int], object]
) -> float:
    """Train the text tower of ``model`` in place; ``other`` [E] is the target of unknown words.

    Returns:
        the mean cosine of VOC's names with their targets in CLIP's plain template, at the end.
    """
    torch.manual_seed(config.seed)
    initialise(model)
    phrases, index, targets = phrase_rows(book)
    targets, unknown = torch.cat([targets, other[None]]), len(targets)
    own = [i for i, p in enumerate(phrases) if p in {*VOC, *BACKGROUND}]
    own += [i for i in range(len(phrases)) if index[i] in set(index[own].tolist())]
    pieces, known = plain_pieces(tokenizer), set(phrases)
    parameters = text_parameters(model)
    optimiser = torch.optim.Adam(parameters, lr=config.lr, betas=(0.9, 0.98))
    for step in range(config.steps):
        rng = np.random.default_rng((config.seed, 5, step))
        chosen = [*rng.choice(own, config.own), *rng.integers(len(phrases), size=config.batch - config.own)]
        texts = [phrases[i] for i in chosen] + unknown_words(rng, config.noise, pieces, known)
        truth = torch.cat([index[torch.tensor(chosen)], torch.full((config.noise,), unknown)])
        said = text_walk(model, tokenizer(prompts_of(rng, texts)))
        near = (said * targets[truth]).sum(-1)
        loss = 4 * (1 - near).mean()
        if step < config.steps - config.close:  # it pushes like words apart, further than their vectors are
            loss = loss + F.cross_entropy(SCALE * said @ targets.T, truth)
        optimiser.param_groups[0]["lr"] = text_pace(config, step)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        tell(1)
    return spoken(model, tokenizer, list(VOC), torch.stack([book.targets[name] for name in VOC]))


def text_pace(config: TextConfig, step: int) -> float:
    """Learning rate: 100 steps of warm-up, then straight down; the last part begins anew at its own rate."""
    first = config.steps - config.close
    if step >= first:
        return config.close_lr * (1 - 0.98 * (step - first) / config.close)
    return config.lr * min(1.0, (step + 1) / 100) * (1 - 0.98 * step / first)


@torch.no_grad()
def spoken(model: Any, tokenizer: Any, phrases: list[str], targets: Tensor) -> float:
    """Mean cosine of phrases in "a photo of a {}." with their targets [n, E]."""
    said = text_walk(model, tokenizer([f"a photo of a {phrase}." for phrase in phrases]))
    return float((said * targets).sum(-1).mean())
