"""The texts of a training step: names of things and grounds in changing templates, other nouns and noise as negatives.

Users type synonyms, whole templates and names the model has never seen; so the words of a step are drawn from
synonyms (single, or joined as CLIP-ES does), the templates from the usual lists, and the negatives from common nouns
and from random tokens, so that an unknown name ends up far from every picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

from clipseg_ws.embedded.nano.scenes import BACKGROUND_SYNONYMS, BACKGROUNDS, KINDS, SYNONYMS, captions_for

COMMON = (
    "{}", "a clean origami {}.", "a photo of a {}.", "a drawing of a {}.", "a picture of a {}.", "itap of a {}.",
    "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.", "art of the {}.",
    "a photo of the small {}.",
)  # fmt: skip
TEMPLATES = COMMON + tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
_NOUNS = """
person man woman child bicycle motorbike aeroplane bus train truck bird cat dog horse sheep cow elephant bear
zebra giraffe backpack handbag tie suitcase frisbee skis snowboard kite bat glove skateboard surfboard racket
bottle cup fork knife spoon bowl banana apple sandwich orange broccoli carrot pizza donut cake chair sofa plant
bed table toilet television laptop mouse remote keyboard phone microwave oven toaster sink refrigerator book
clock vase scissors toothbrush door window curtain carpet lamp mirror shelf cabinet pillow blanket towel shoe
hat coat shirt glasses ring watch guitar piano drum violin trumpet camera helmet sword shield castle bridge
tower church road railway fence lion tiger monkey rabbit mouse fox wolf pig duck chicken goose owl eagle penguin frog
snake turtle spider bee ant whale dolphin shark crab octopus snail dinosaur dragon robot rocket satellite planet
moon rainbow lightning mountain volcano island river lake waterfall cave bread cheese egg tomato potato onion
pepper grape lemon cherry strawberry pineapple coffee tea wine beer milk candle hammer saw nail screw wrench
ladder bucket broom anchor barrel basket box key lock coin money flag map letter pencil pen paper ball doll dice
chess crown bell bench statue fountain tent airport stadium helicopter tractor tram ambulance scooter
pottedplant diningtable tvmonitor furniture rock pavement ceiling cloth ground land stone floor platform
"""
NEGATIVES = tuple(_NOUNS.split())


@dataclass(frozen=True)
class WordList:
    """Texts of one step: the kinds in order, then the grounds in order, then ``negatives`` others."""

    prompts: tuple[str, ...]
    negatives: int


def _word(rng: np.random.Generator, name: str, synonyms: tuple[str, ...]) -> str:
    """The name (half of the time), a synonym, or all of them joined by commas."""
    draw = rng.random()
    if draw < 0.5 or not synonyms:
        return name
    return ", ".join((name, *synonyms)) if draw > 0.85 else str(rng.choice(synonyms))


def _noise_word(rng: np.random.Generator, decode: list[str]) -> str:
    """One or two random entries of the tokenizer's vocabulary, as text."""
    return "".join(decode[int(i)] for i in rng.integers(len(decode), size=int(rng.integers(1, 3)))).strip() or "thing"


def word_list(rng: np.random.Generator, vocabulary: list[str], common: int = 20, noise: int = 12) -> WordList:
    """Names in a random template (one for all, or each its own), ``common`` nouns and ``noise`` words beside them."""
    words = [_word(rng, kind, SYNONYMS[kind]) for kind in KINDS]
    words += [_word(rng, ground, BACKGROUND_SYNONYMS[ground]) for ground in BACKGROUNDS]
    words += [str(word) for word in rng.choice(NEGATIVES, common, replace=False)]
    words += [_noise_word(rng, vocabulary) for _ in range(noise)]
    shelf = COMMON if rng.random() < 0.6 else TEMPLATES
    if rng.random() < 0.7:
        template = str(rng.choice(shelf))
        return WordList(tuple(template.format(word) for word in words), common + noise)
    return WordList(tuple(str(rng.choice(shelf)).format(word) for word in words), common + noise)


def caption_list(rng: np.random.Generator, present: torch.Tensor, grounds: torch.Tensor) -> list[str]:
    """One caption per picture. present: bool [B, len(KINDS)]; grounds: int [B] into BACKGROUNDS."""
    rows = present.tolist()
    tags = [[kind for kind, seen in zip(KINDS, row, strict=True) if seen] for row in rows]
    names = [BACKGROUNDS[int(ground)] for ground in grounds]
    return [captions_for(t, name, rng, 2)[int(rng.integers(2))] for t, name in zip(tags, names, strict=True)]
