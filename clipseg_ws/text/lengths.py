"""Prompts that are longer than a text tower reads: found before they are cut in silence. torch is imported on call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from clipseg_ws.structures import Vocabulary

TooLong = Callable[[Sequence[str]], Sequence[str]]  # prompts -> those that would be cut

def filled(word: str, templates: Sequence[str]) -> list[str]:
    """The prompts of a word."""
    return [template.replace("{}", word) for template in templates]


def cut_prompts(encode_text: Callable[..., Any], prompts: Sequence[str]) -> list[str]:
    """Those prompts that the tokenizer behind ``encode_text`` (a backbone's method) would cut; none where it is not
    known how texts become tokens."""
    tokenizer = getattr(getattr(encode_text, "__self__", None), "tokenizer", None)
    if tokenizer is None or not prompts:
        return []
    doubtful = [prompt for prompt in prompts if len(prompt.encode()) > 32]  # a token is a byte at least
    if not doubtful:
        return []
    limit = int(tokenizer([""]).shape[1])
    doubtful = [prompt for prompt in doubtful if len(prompt.encode()) > limit - 2]
    return [prompt for prompt in doubtful if _tokens(tokenizer, prompt, limit) > limit]


def _tokens(tokenizer: Callable[..., Any], prompt: str, limit: int) -> int:
    """Tokens of a prompt, begin and end included; 0 where the tokenizer knows no other length than its own."""
    room = max(2 * limit, len(prompt.encode()) + 8)
    try:
        row = tokenizer([prompt], context_length=room)[0].tolist()
    except TypeError:
        return 0
    pad = row[-1]
    return next((place + 1 for place in range(room - 1, -1, -1) if row[place] != pad), room)


def check_lengths(vocabulary: Vocabulary, words: Sequence[str], owner: Sequence[int], too_long: TooLong) -> None:
    """Raise ValueError for a word with a prompt that would be cut; names its class."""
    for word, index in zip(words, owner, strict=True):
        if cut := too_long(filled(word, vocabulary.templates_of(index))):
            whose = f"class {vocabulary.names[index]!r}" if index >= 0 else f"background word {word!r}"
            raise ValueError(
                f"{whose}: the prompt {cut[0][:60]!r}... is longer than the text tower reads and would be cut; shorten "
                "it, or split it into several prompts or synonyms"
            )
