"""A whole folder once more as one data set (COCO, YOLO, VOC, ...), made from what was written on disk.

Label PNGs of earlier runs count as those of this one, so that a resumed run gives all; one picture is held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipseg_ws.output.formats import FORMATS, dataset_formats, find_format, names_of
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.items import Item
from clipseg_ws.output.save import is_done, output_paths
from clipseg_ws.pictures.naming import picture_names, picture_stems
from clipseg_ws.pictures.sources import Source, is_url


@dataclass(frozen=True)
class Written:
    """A picture whose results are on disk.

    Attributes:
        name: file name of the picture below its folder, "trip/a.jpg". location: its path or URL.
        labels: its label PNG. instances: its instance map as 16-bit PNG (0 = none), or None.
        stem: what files that belong to it are called, distinct in the data set; None: the name without suffix.
    """

    name: str
    location: str
    labels: Path
    instances: Path | None = None
    stem: str | None = None


def written(
    sources: Sequence[Source],
    directory: str | Path,
    formats: str | Sequence[str] = ("png",),
    instances: str | Path | None = None,
) -> list[Written]:
    """The pictures whose files are complete, in order of ``sources``, also those of earlier runs.

    Args:
        directory: where ``save`` put them. formats: the pictures' formats; the label PNG must be there in any case.
        instances: folder of ``<relative>.png`` instance maps, where some were written.
    """
    found = []
    names = picture_names(sources)
    for source, name, stem in zip(sources, names, picture_stems(names), strict=True):
        (labels,) = output_paths(directory, source.relative, ("png",))
        if is_done(directory, source.relative, formats):
            things = None if instances is None else output_paths(instances, source.relative, ("png",))[0]
            there = things if things is not None and things.exists() else None
            found.append(Written(name, str(source), labels, there, stem))
    return found


def write_datasets(
    formats: str | Sequence[str], directory: str | Path, names: Sequence[str], entries: Sequence[Written]
) -> list[Path]:
    """Write ``coco.json``, ``yolo/``, ... below ``directory`` and return their paths, one a format.

    Args:
        formats: of a whole folder, from ``formats.FORMATS``; none: nothing is done.
        names: the classes in the order of the labels. entries: of ``written``.

    Raises:
        ValueError: an unknown format, labels or names that a format cannot hold, a damaged label PNG, a picture whose
            own result has the name of the data set. ImportError: a format whose extra is not installed.
    """
    made = []
    for text in dataset_formats(formats):
        entry, parameters = find_format(text)
        path = Path(directory, entry.about["file"])
        _check_place(path, entry.about["file"], entries)
        entry.load()(path, _items(entries), names, **parameters)
        made.append(path)
    return made


def _check_place(path: Path, file: str, entries: Sequence[Written]) -> None:
    """Raise ValueError where a picture's own result may have the name of the data set: coco.jpg and coco.json."""
    endings = [FORMATS[name].about["file"] for name in names_of("picture")]
    stems = {file.removesuffix(ending) for ending in endings if file.endswith(ending)}
    for one in entries:
        if one.labels.parent == path.parent and one.labels.stem in stems:
            raise ValueError(f"a result of {one.name!r} may be called {str(path)!r} too; rename the picture")


def _items(entries: Sequence[Written]) -> Iterator[Item]:
    """Label maps read one by one."""
    for entry in entries:
        things = None if entry.instances is None else read_label_png(entry.instances)
        place = None if is_url(entry.location) else entry.location
        yield Item(entry.name, read_label_png(entry.labels), things, entry.stem, place)
