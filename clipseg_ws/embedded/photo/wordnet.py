"""WordNet 3.0: nouns, synonyms, what they are kinds of (Debian's ``wordnet-base``). For training only."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

PLACES = (Path("/usr/share/wordnet"),)


class WordNet:
    """The file ``data.noun``. Synsets are their offsets, 8 digits, as in ImageNet's ``n02084071``.

    Raises FileNotFoundError where the file is not in ``folder``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        places = [folder] if folder is not None else list(PLACES)
        found = [place / "data.noun" for place in places if (place / "data.noun").is_file()]
        if not found:
            raise FileNotFoundError(
                f"no data.noun in {', '.join(map(str, places))}; install Debian's wordnet-base or name its folder with "
                "--wordnet, for example --wordnet /usr/share/wordnet"
            )
        self.file = found[0]

    @cached_property
    def _synsets(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        rows = {}
        for line in self.file.read_text(encoding="latin-1").splitlines():
            if line.startswith("  "):  # the licence
                continue
            parts = line.split(" | ")[0].split()
            count = int(parts[3], 16)
            names = tuple(word.replace("_", " ") for word in parts[4 : 4 + 2 * count : 2])
            pointers = parts[5 + 2 * count :]
            above = tuple(pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] in ("@", "@i"))
            rows[parts[0]] = (names, above)
        return rows

    def names(self, synset: str) -> tuple[str, ...]:
        """The words of a synset, the usual one first."""
        return self._synsets[synset][0]

    def above(self, synset: str) -> set[str]:
        """All synsets that it is a kind of, itself included."""
        seen, todo = set(), [synset]
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += self._synsets[one][1]
        return seen
