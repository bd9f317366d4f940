"""Every name that ``photo`` knows and the vector that it stands for: names, synonyms, more general words, background.

Vectors are those that the training learned for concepts, ImageNet's classes and background words; a more general word
("animal") stands for the mean of what it may be said of.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.embedded.photo.concepts import VOC
from clipseg_ws.embedded.photo.objective import Words
from clipseg_ws.embedded.photo.related import ROOTS, imagenet_synsets
from clipseg_ws.embedded.photo.wordnet import WordNet

SYNONYMS = {
    "aeroplane": "airplane, plane, aircraft, jet", "bicycle": "bike, cycle, push bike", "bird": "bird avian, birdie",
    "boat": "ship, sailboat, sailing boat, motorboat", "bottle": "bottles", "bus": "coach, autobus, double decker",
    "car": "automobile, auto, motorcar", "cat": "kitty, kitten, pussycat, house cat, domestic cat",
    "chair": "chair seat, seat", "cow": "cattle, calf, bull", "diningtable": "dining table, table, dinner table",
    "dog": "puppy, pup, doggy, hound", "horse": "pony, foal, mare, stallion",
    "motorbike": "motorcycle, motor bike, motor cycle",
    "person": "people, human, man, woman, boy, girl, child, baby, pedestrian, human being, person with clothes",
    "pottedplant": "potted plant, houseplant, house plant, plant", "sheep": "lamb, ewe",
    "sofa": "couch, settee, loveseat", "train": "railway train, locomotive",
    "tvmonitor": "tvmonitor screen, tv, television, tv monitor, television set, monitor, screen, computer monitor",
    "cell phone": "cellphone, mobile phone, smartphone", "rhino": "rhinoceros", "panda": "giant panda",
    "face": "human face", "house": "home", "water lily": "waterlily",
}  # fmt: skip
ALSO_CALLED = {"missile": "rocket", "coffee mug": "mug", "espresso": "coffee", "soccer ball": "football"}  # ImageNet's
BACKGROUND = [
    "ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water", "river", "sea", "railway",
    "railroad", "keyboard", "helmet", "cloud", "house", "mountain", "ocean", "road", "rock", "street", "valley",
    "bridge", "sign",
]  # fmt: skip
# ImageNet's classes that say where a background word's slot lies
SCENES = {
    "lake": ("lakeshore",), "sea": ("beach", "sandbar"), "ocean": ("breakwater", "coral reef"), "valley": ("valley",),
    "rock": ("cliff", "promontory"), "mountain": ("mountain", "volcano"), "wall": ("stone wall",), "grass": ("hay",),
    "bridge": ("suspension bridge", "viaduct"), "sign": ("street sign",), "water": ("dam", "fountain"),
    "building": ("palace", "church", "apiary"), "railway": ("steel arch bridge",), "street": ("traffic light",),
}  # fmt: skip
TOO_ABSTRACT = {
    "entity", "physical entity", "abstraction", "abstract entity", "object", "physical object", "whole", "unit",
    "artifact", "artefact", "matter", "instrumentality", "instrumentation", "living thing", "animate thing",
    "organism", "being", "causal agent", "cause", "causal agency", "thing", "physical thing", "substance", "part",
    "portion", "relation", "attribute", "psychological feature", "group", "grouping", "way", "system", "state",
    "creation", "commodity", "trade good", "good", "solid", "natural object", "event", "act", "deed",
    "human action", "human activity", "measure", "quantity", "amount", "communication", "location", "region",
    "area", "facility", "installation", "piece", "set", "mass", "person", "individual", "someone", "somebody",
    "mortal", "soul", "case", "block", "bar", "body", "strip", "line", "point", "collection", "aggregation",
    "work",
}  # fmt: skip
MOST_MEMBERS = 430  # a more general word with more members says too little
MOST_KINDS = 16  # names that stand for a more general word; each is looked for in every picture
OWN_WEIGHT = 5.0  # of a VOC name among the members of a more general word


@dataclass
class Lexicon:
    """``targets``: phrase (lower case) -> unit vector [E]. ``names``: what ``list names`` shows. ``general``: phrases
    of more general words. ``kinds``: such a word -> names of what it may be said of. ``background``: words for the
    background."""

    targets: dict[str, Tensor] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    general: list[str] = field(default_factory=list)
    kinds: dict[str, list[str]] = field(default_factory=dict)
    background: list[str] = field(default_factory=list)

    def add(self, phrase: str, vector: Tensor) -> bool:
        """Whether the phrase was new; the first meaning stays."""
        key = plain(phrase)
        if not key or key in self.targets:
            return False
        self.targets[key] = vector
        return True


def plain(phrase: str) -> str:
    """Lower case, single spaces, without what stands in brackets."""
    return " ".join(phrase.lower().split("(")[0].replace("_", " ").split())


def build_lexicon(words: Words, concepts: list[str], wordnet: WordNet) -> Lexicon:
    """All phrases: concepts first, then background words, ImageNet's names, their synonyms, more general words."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    book, synsets = Lexicon(), imagenet_synsets()
    for name, vector in zip(concepts, words.concepts, strict=True):
        book.names.append(name)
        book.add(name, vector)
        for synonym in SYNONYMS.get(name, "").split(","):
            book.add(synonym, vector)
    slots = background_slots(words)
    for word in BACKGROUND:
        book.background.append(word)
        book.add(word, words.background[slots[word]])
    for name, vector in zip(IMAGENET_CLASSNAMES, words.imagenet, strict=True):
        if book.add(name, vector):
            book.names.append(plain(name))
        book.add(ALSO_CALLED.get(name, ""), vector)
    for synset, vector in zip(synsets, words.imagenet, strict=True):
        for name in wordnet.names(synset):
            book.add(name, vector)
    _general(book, words, concepts, wordnet, synsets)
    book.kinds = kinds_of(book.general, wordnet)
    return book


def kinds_of(general: list[str], wordnet: WordNet) -> dict[str, list[str]]:
    """General word -> at most ``MOST_KINDS`` names of what it may be said of: VOC's, then ImageNet's evenly spaced.

    ImageNet's names of what VOC has a name for (breeds of dogs) stand only where there are no others ("hound").
    """
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    wanted, found = set(general), dict[str, tuple[list[str], ...]]()

    def file(synset: str, name: str, place: int) -> None:
        for above in wordnet.above(synset) - {synset}:
            for word in {plain(word) for word in wordnet.names(above)} & wanted:
                if word not in VOC and name not in (listed := found.setdefault(word, ([], [], []))[place]):
                    listed.append(name)

    for name in VOC:
        file(ROOTS[name][0], name, 0)
    roots = {ROOTS[name][0] for name in VOC}
    for synset, name in zip(imagenet_synsets(), IMAGENET_CLASSNAMES, strict=True):
        file(synset, plain(name), 1 if roots.isdisjoint(wordnet.above(synset)) else 2)
    kinds = {}
    for word, (own, others, covered_ones) in sorted(found.items()):
        others = others if own or others else covered_ones
        room = min(len(others), max(0, MOST_KINDS - len(own)))
        kinds[word] = own + [others[i * len(others) // room] for i in range(room)]
    return kinds


def background_slots(words: Words) -> dict[str, int]:
    """Background word -> its row: the row nearest to the word's scenes of ImageNet where there are some, else any."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    index = {name: i for i, name in enumerate(IMAGENET_CLASSNAMES)}
    free, slots = set(range(len(words.background))), {}
    for word in sorted(BACKGROUND, key=lambda w: w not in SCENES):
        rows = [index[name] for name in SCENES.get(word, ()) if name in index]
        order = sorted(free)
        if rows:
            near = words.background[order] @ F.normalize(words.imagenet[rows].mean(0), dim=-1)
            order = [order[int(near.argmax())]]
        slots[word] = order[0]
        free.discard(order[0])
    return slots


def _general(book: Lexicon, words: Words, concepts: list[str], wordnet: WordNet, synsets: list[str]) -> None:
    """Words that may be said of two or more known things, as the mean of those."""
    members: dict[str, list[Tensor]] = {}
    for synset, vector in zip(synsets, words.imagenet, strict=True):
        for above in sorted(wordnet.above(synset) - {synset}):
            members.setdefault(above, []).append(vector)
    for name, vector in zip(VOC, words.concepts[: len(VOC)], strict=True):
        for above in sorted(wordnet.above(ROOTS[name][0])):
            members.setdefault(above, []).append(OWN_WEIGHT * vector)
    for synset, vectors in sorted(members.items(), key=lambda item: len(item[1])):
        names = [plain(name) for name in wordnet.names(synset)]
        if len(vectors) < 2 or len(vectors) > MOST_MEMBERS or TOO_ABSTRACT & set(names):
            continue
        mean = F.normalize(torch.stack(vectors).sum(0), dim=-1)
        book.general += [name for name in names if book.add(name, mean)]


