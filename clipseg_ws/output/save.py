"""The files of one result: where they lie, whether they are there, and writing them; each whole or not there at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from clipseg_ws.output.formats import find_format, picture_formats
from clipseg_ws.pictures.sources import Source, is_url, source_name
from clipseg_ws.structures import Result
from clipseg_ws.together import remove


def output_paths(directory: str | Path, relative: str | PurePosixPath, formats: str | Sequence[str]) -> list[Path]:
    """Files (or folders) that ``save`` writes for a source's ``relative`` name, one a format, in order.

    Raises ValueError for a name that is empty, absolute or holds ``..``: nothing is written outside ``directory``.
    """
    place = PurePosixPath(relative)
    if not place.name or place.is_absolute() or ".." in place.parts:
        raise ValueError(f"a result's name must lie below the output folder, e.g. 'trip/img_1'; got {str(relative)!r}")
    folder = Path(directory, *place.parts[:-1])
    known = formats if isinstance(formats, str) else tuple(formats)
    return [folder / f"{place.name}{ending}" for ending in _endings(known)]


@lru_cache(maxsize=64)
def _endings(formats: str | tuple[str, ...]) -> tuple[str, ...]:
    """What follows a picture's name; read once for all pictures of a run."""
    return tuple(find_format(name)[0].about["file"] for name in picture_formats(formats))


def is_done(directory: str | Path, relative: str | PurePosixPath, formats: str | Sequence[str]) -> bool:
    """Whether all files of ``output_paths`` are there and hold something.

    A name that the file system refuses, for its length say, is not done: writing it is that picture's failure.
    """
    return all(map(is_whole, output_paths(directory, relative, formats)))


def done_sources(directory: str | Path, sources: Iterable[Source], formats: str | Sequence[str]) -> Iterator[Source]:
    """Those whose results are there, see ``is_done``."""
    return (source for source in sources if is_done(directory, source.relative, formats))


def is_whole(path: Path) -> bool:
    """Whether a result's file or folder is there and holds something; False for names that no file can have."""
    try:
        return path.is_dir() or path.stat().st_size > 0
    except OSError:
        return False


def save(
    result: Result,
    directory: str | Path,
    formats: str | Sequence[str] = ("png", "overlay", "json"),
    stem: str | None = None,
    relative: str | PurePosixPath | None = None,
    record: Callable[[], None] | None = None,
) -> list[Path]:
    """Write one file (or folder) a format below ``directory`` and return their paths, in order; they replace old ones.

    Args:
        formats: of one picture, from ``formats.FORMATS``: a sequence or "png, overlay(alpha=0.3)".
        stem: file name without suffix; by default the result's own, which is distinct within its batch: that of the
            source, ``image`` for arrays.
        relative: name with sub-folders (``Source.relative``), instead of ``stem``.
        record: called before anything is written, when old files no longer count as complete.

    Raises:
        ValueError: unknown format, a name outside ``directory``, both names, a file that is the source picture itself.
    """
    if stem is not None and relative is not None:
        raise ValueError(f"give stem or relative, not both: stem={stem!r}, relative={str(relative)!r}")
    if stem is not None and PurePosixPath(stem).name != stem:
        raise ValueError(f"stem={stem!r} must be a bare file name without suffix; sub-folders go into relative=")
    name = stem if relative is None else relative
    if name is None:
        name = result.name or (source_name(result.source) if result.source else "image")
    paths = output_paths(directory, name, formats)
    _spare_the_source(result.source, paths)
    if record is not None:
        remove(paths[-1])
        record()
    for text, path in zip(picture_formats(formats), paths, strict=True):
        entry, parameters = find_format(text)
        entry.load()(result, path, [other.name for other in paths], **parameters)
    return paths


def _spare_the_source(source: str | None, paths: Sequence[Path]) -> None:
    """Raise ValueError where a result would replace the picture that it was made from, or the folder of it."""
    if not source or is_url(source):
        return
    picture = Path(source).resolve()
    if {picture, *picture.parents} & {path.resolve() for path in paths}:
        raise ValueError(f"{source!r} would be overwritten by its own result; choose another output folder or stem")
