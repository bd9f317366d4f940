"""What a caller hands over as supports -> a bank; masks that are missing are predicted from the label (weak-few)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from clipseg_ws.backbones.protocol import PictureModel, speaks
from clipseg_ws.config import Config
from clipseg_ws.fewshot.bank import BankError, BankWarning, SupportBank, load_bank
from clipseg_ws.fewshot.calibration import name_weights
from clipseg_ws.fewshot.encoding import encode_bank, support_name
from clipseg_ws.fewshot.labels import VALUES, joined_labels, match_labels, vocabulary_of
from clipseg_ws.fewshot.matcher import FewShotMatcher
from clipseg_ws.fewshot.supports import NothingFound, SupportError, read_support_dir, read_supports
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.stages.question import Examples
from clipseg_ws.structures import Support, TextEmbeddings, Tokens, Vocabulary
from clipseg_ws.text.matching import same_classes

Segment = Callable[[Sequence[Any], Sequence[str]], Sequence[Segmentation]]  # pictures, one tag each -> answers


def make_bank(
    supports: Any, backbone: PictureModel, config: Config, segment: Segment,
    encode: Callable[[Sequence[Any]], Tokens] | None = None,
) -> SupportBank:  # fmt: skip
    """A bank of ``backbone`` from supports, a folder of them, a saved bank, or a bank (checked).

    Args:
        supports: a ``Support`` or a tuple (image, mask[, label]), a list of these, a folder ``label/picture.jpg`` +
            ``label/picture.png``, a file of ``SupportBank.save``, or a ``SupportBank``.
        segment: answers the weak setting, for supports that have a label and no mask.
        encode: as for ``encode_bank``.

    Raises:
        BankError: a bank of other weights, or without the needed features. SupportError: what cannot be used.
    """
    kinds = kinds_needed(config)
    if isinstance(supports, (str, Path)) and not os.path.isdir(supports):
        supports = load_bank(supports, backbone)
    if isinstance(supports, SupportBank):
        supports.check(backbone, kinds)
        _say_sizes(supports, config)
        return supports.to(backbone.device)
    given = read_support_dir(supports) if isinstance(supports, (str, Path)) else _listed(supports)
    ready, confidence = predict_masks(given, segment)
    if config.fewshot.calibrate and speaks(backbone) and VALUES not in kinds:
        kinds = (*kinds, VALUES)  # in which names can be looked for
    return encode_bank(
        backbone, ready, kinds=kinds, short_side=config.short_side, long_side=config.long_side,
        max_patches=config.max_patches, batch_size=config.batch_size, confidence=confidence, encode=encode,
    )  # fmt: skip


def _say_sizes(bank: SupportBank, config: Config) -> None:
    """Warn where a bank's pictures were encoded at another size than the pictures that are asked about."""
    now = {key: getattr(config, key) for key in bank.sizes}
    if differing := [f"{key}={bank.sizes[key]} (now {now[key]})" for key in sorted(now) if now[key] != bank.sizes[key]]:
        warnings.warn(
            f"the bank was encoded with {', '.join(differing)}; encode the supports again for equal sizes", BankWarning,
            stacklevel=4,
        )  # fmt: skip


def kinds_needed(config: Config) -> tuple[str, ...]:
    """The kinds of features that a bank must have for ``config``."""
    kinds = config.fewshot.kinds
    return kinds if config.step("known") is None or VALUES in kinds else (*kinds, VALUES)


def predict_masks(supports: Sequence[Any], segment: Segment) -> tuple[list[Any], dict[int, np.ndarray]]:
    """Masks for the supports that carry a label only; their confidence [H, W] by place in the returned list.

    A support in which its class has no map at all is left out, unless the class then has none.

    Raises:
        SupportError: neither mask nor label. NothingFound: no support of a class shows it.
    """
    if all(_mask_of(support) is not None for support in supports):
        return list(supports), {}
    read = read_supports(supports)
    open_ = [i for i, support in enumerate(read) if support.mask is None]
    for i in open_:
        if read[i].label is None:
            raise SupportError(
                f"support {support_name(supports[i])!r} has neither mask nor label; give one, for example "
                "Support('a.jpg', 'a.png') or Support('a.jpg', label='cat')"
            )
    answers = segment([read[i].image for i in open_], [str(read[i].label) for i in open_])
    found = dict(zip(open_, answers, strict=True))
    ready: list[Any] = []
    confidence: dict[int, np.ndarray] = {}
    for i, (support, original) in enumerate(zip(read, supports, strict=True)):
        if i not in found:
            ready.append(original)
            continue
        mask, sure = _found_mask(found[i])
        if not mask.any():
            continue
        confidence[len(ready)] = sure
        ready.append(replace(support, mask=mask.astype(np.uint8)))
    left = {str(label) for label in map(_label_of, ready) if label is not None}
    groups = same_classes([*left, *(str(read[i].label) for i in open_)])
    lost = sorted(group[0] for group in groups if not left & set(group))
    if lost:
        raise NothingFound(
            f"nothing of {', '.join(map(repr, lost))} was found in the supports without a mask; give masks, or others"
        )
    return ready, confidence


def _found_mask(answer: Segmentation) -> tuple[np.ndarray, np.ndarray]:
    """Mask bool [H, W] and confidence [H, W] of the one class, which is known to be there.

    Where no pixel was decided for it, the upper half of its map is taken, half as sure.
    """
    mask, confidence = answer.mask(answer.names[0]), np.asarray(answer.confidence, np.float32)
    maps = answer.extras.get("maps")
    if mask.any() or maps is None:
        return mask, confidence
    own = np.asarray(maps[0], np.float32)
    peak = float(own.max())
    return (own >= peak / 2) & (peak > 0), own / max(2 * peak, 1e-12)


class Matchers:
    """Prepared banks, kept as long as the bank itself: one matcher for each set of classes and configuration."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[SupportBank, dict[Any, FewShotMatcher]] = WeakKeyDictionary()

    def by_examples(
        self, bank: SupportBank, config: Config, known: TextEmbeddings | None
    ) -> tuple[Vocabulary, Examples]:
        """The supports' labels as vocabulary; no names take part."""
        words = vocabulary_of(bank.asked or bank.labels)
        matcher, own = self._matcher(bank, words, config, unnamed=False)
        return words, Examples(matcher, own, len(words.names), None, known)

    def with_names(
        self, bank: SupportBank, vocabulary: Vocabulary, text: TextEmbeddings | None, config: Config,
        known: TextEmbeddings | None, scale: float,
    ) -> Examples:  # fmt: skip
        """Classes by name and by example; labels that are no class compete only. ``scale``: of cosines with words.

        Raises:
            BankError: no label is a class, or a class has neither supports nor a name that counts (``text`` None).
        """
        found = match_labels(bank.asked or bank.labels, vocabulary).values()
        rest = [name for i, name in enumerate(vocabulary.names) if i not in found]
        if text is None and rest:
            raise BankError(
                f"no supports for {', '.join(map(repr, rest))}, and names do not count (fewshot.text_weight=0); the "
                f"bank holds {', '.join(f'{k} ({n})' for k, n in bank.shots().items())}"
            )
        matcher, own = self._matcher(bank, vocabulary, config)
        weights = None
        if text is not None and config.fewshot.calibrate:
            weights = name_weights(matcher, own, text, scale)
        return Examples(matcher, own, len(vocabulary.names), text, known, weights)

    def _matcher(
        self, bank: SupportBank, vocabulary: Vocabulary, config: Config, unnamed: bool = True
    ) -> tuple[FewShotMatcher, tuple[int, ...]]:
        """For the classes of a vocabulary, and the index of each class that the bank is asked for."""
        if config.decision == "words":
            raise ValueError(
                f"method {config.method!r} decides by words and takes no supports; use a method with maps, for "
                "example method='default', 'clip-es' or 'prototypes'"
            )
        kept = self._kept.setdefault(bank, {})
        joined = joined_labels(bank, vocabulary, unnamed=unnamed)
        asked = match_labels(joined.asked or joined.labels, vocabulary, unnamed=unnamed)
        key = (tuple(asked), tuple(entry.label for entry in joined.entries), config.fewshot)
        if key not in kept:
            kept[key] = FewShotMatcher(joined.focus(tuple(asked)), config.fewshot)
        return kept[key], tuple(asked.values())


def _listed(supports: Any) -> list[Any]:
    if isinstance(supports, Support) or (isinstance(supports, tuple) and supports and not _is_support(supports[0])):
        return [supports]
    listed = list(supports)
    if not listed:
        raise SupportError("no supports were given; at least one is needed, e.g. Support('a.jpg', 'a.png', 'cat')")
    return listed


def _is_support(item: Any) -> bool:
    return isinstance(item, (Support, tuple, list))


def _mask_of(support: Any) -> Any:
    if isinstance(support, Support):
        return support.mask
    return support[1] if isinstance(support, (tuple, list)) and len(support) > 1 else None


def _label_of(support: Any) -> str | None:
    label = support.label if isinstance(support, Support) else support[2] if len(support) > 2 else None
    return None if label is None else str(label).strip()
