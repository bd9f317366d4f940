"""From a finished training to the files of the package: text tower, weights as float16, known words in the card."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import open_clip
import torch
from tqdm import tqdm

from clipseg_ws.embedded.photo import CONFIG
from clipseg_ws.embedded.photo.concepts import VOC
from clipseg_ws.embedded.photo.data import Pool
from clipseg_ws.embedded.photo.lexicon import Lexicon, build_lexicon
from clipseg_ws.embedded.photo.texts import TextConfig, train_texts
from clipseg_ws.embedded.photo.trainer import Trainer
from clipseg_ws.embedded.photo.wordnet import WordNet
from clipseg_ws.embedded.training import save_half


def export(trainer: Trainer, pool: Pool, wordnet: WordNet, out: Path, texts: TextConfig | None = None) -> float:
    """Train the text tower and write ``photo.safetensors`` and ``open_clip_config.json`` into ``out``.

    Returns:
        the mean cosine of VOC's names as the text tower says them with the vectors that were learned.
    """
    texts = texts or TextConfig()
    words, scale = trainer.mean_words()
    book = build_lexicon(type(words)(*(part.cpu() for part in vars(words).values())), pool.names, wordnet)
    model = trainer.model.cpu()
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    with tqdm(total=texts.steps, desc="text tower", disable=None) as bar:
        cosine = train_texts(model, tokenizer, book, words.other[0].cpu(), texts, bar.update)
    model.visual = trainer.mean_visual.cpu()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(float(scale)))
    write_weights(model, out / "photo.safetensors")
    write_card(book, out / "open_clip_config.json")
    return cosine


def write_weights(model: torch.nn.Module, path: Path) -> None:
    """All weights as float16 (counters of batches left out), through a temporary name."""
    save_half({k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}, path)


def write_card(book: Lexicon, path: Path) -> None:
    """The package's configuration with the words that these weights know; recommended settings stay as they are."""
    card = json.loads(CONFIG.read_text())
    card["clipseg_ws"] |= {
        "default_classes": list(VOC),
        "known_classes": book.names,
        "known_words": sorted({*book.targets} - {*book.names}),
        "kinds": book.kinds,
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(card, indent=1) + "\n")
    os.replace(part, path)
