"""Examples on the command line: ``--support IMAGE MASK [LABEL]``, folders and banks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from clipseg_ws.cli.groups import ExampleOptions

if TYPE_CHECKING:
    from clipseg_ws.fewshot.bank import SupportBank
    from clipseg_ws.segmenter import Segmenter

_SEPARATOR = "\x1f"  # between the words of one --support, which no file name holds
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".txt")


class SupportCommand(TyperCommand):
    """Takes ``--support IMAGE MASK [LABEL]``: two or three words, which click's options cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the words of every ``--support`` into one before click sees them."""
        return super().parse_args(ctx, join_supports(args))


def join_supports(args: list[str]) -> list[str]:
    """["--support", "a.jpg", "a.png", "cat", "q.jpg"] -> ["--support", "a.jpg\\x1fa.png\\x1fcat", "q.jpg"].

    The third word is the label unless it is an option, an existing path, a URL, a glob or has the ending of a picture.
    """
    out: list[str] = []
    i = 0
    while i < len(args):
        if args[i] != "--support":
            out.append(args[i])
            i += 1
            continue
        words = args[i + 1 : i + 3]
        if len(words) == 2 and not any(w.startswith("-") and w != "-" for w in words):
            if i + 3 < len(args) and _is_label(args[i + 3]):
                words = args[i + 1 : i + 4]
            out += ["--support", _SEPARATOR.join(words)]
            i += 1 + len(words)
        else:
            out.append(args[i])
            i += 1
    return out


def _is_label(word: str) -> bool:
    looks_like_source = word.lower().endswith(_ENDINGS) or "://" in word or any(c in word for c in "*?[/\\")
    return not word.startswith("-") and not looks_like_source and not os.path.exists(word)


def parse_support(word: str) -> tuple[Any, ...]:
    """One joined ``--support`` -> (image, mask or None, label or None). Raises ValueError for too few words."""
    parts = word.split(_SEPARATOR)
    if len(parts) < 2:
        raise ValueError(
            f"--support {word!r} needs a picture and a mask, for example --support a.jpg a.png cat ('-' instead of the "
            "mask: only the label is known)"
        )
    image, mask, label = (*parts, None)[:3]
    return image, None if mask == "-" else mask, label


def read_supports(options: ExampleOptions) -> list[Any]:
    """The examples of the command line, unencoded. Raises ValueError for a --support of too few words."""
    from clipseg_ws.fewshot.supports import read_support_dir

    listed: list[Any] = [parse_support(word) for word in options.support or []]
    if options.support_dir is not None:
        listed += read_support_dir(options.support_dir, masks=not options.weak_supports)
    return listed


def any_examples(options: ExampleOptions) -> bool:
    """Whether the command line names examples. Raises FileNotFoundError for a bank that is not there and not made."""
    listed = bool(options.support or options.support_dir)
    if options.bank is not None and not options.bank.exists() and not listed:
        raise FileNotFoundError(
            f"no support bank at {str(options.bank)!r}; make one with --support a.jpg a.png cat --bank {options.bank}, "
            "or leave --bank out"
        )
    return listed or options.bank is not None


def make_examples(segmenter: Segmenter, given: list[Any], file: Path | None) -> SupportBank:
    """The bank of the command line: loaded, extended, saved. One of both must be there.

    A bank that is extended is locked meanwhile: of two commands at once the second waits, and none loses its examples.
    """
    from clipseg_ws.together import locked

    if file is None or not given:
        return _joined(segmenter, given, file)
    with locked(file.with_name(f".{file.name}.lock"), what=f"the bank {file}"):
        return _joined(segmenter, given, file)


def _joined(segmenter: Segmenter, given: list[Any], file: Path | None) -> SupportBank:
    old = segmenter.bank(file) if file is not None and file.exists() else None
    if old is not None and not given:
        return old
    new = segmenter.bank(given)
    joined = new if old is None else old.merge(new)
    if file is not None:
        joined.save(file)
    return joined
