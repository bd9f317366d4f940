"""The one error for what comes from outside, and the place where every other exception becomes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something from outside that cannot be used; its text says file, place, fault and advice.

    Attributes:
        file: as it was named, or "". place: "line 3", "annotation 7", or "". advice: what to do, or "".

    Example:
        >>> str(InputError("no JSON", file="a.json", place="line 3", advice="export it again"))
        "'a.json', line 3: no JSON; export it again"
    """

    def __init__(self, wrong: str, *, file: object = "", place: str = "", advice: str = "") -> None:
        self.file, self.place, self.advice = str(file), place, advice
        where = ", ".join(part for part in (repr(self.file) if self.file else "", place) if part)
        said = f"{where}: {wrong}" if where else wrong
        super().__init__(f"{said}; {advice}" if advice else said)


def one_line(text: object, most: int = 600) -> str:
    """Text on one line, without control signs, cut after ``most`` letters."""
    plain = " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


@contextmanager
def reading(
    file: object, what: str = "", *, place: str = "", advice: str = "", kind: type[InputError] = InputError
) -> Iterator[None]:
    """Whatever goes wrong inside becomes a ``kind`` that names ``file``; an ``InputError`` that names one stays, and
    so do those of a kind of its own (``DatasetError``, ``ImageError``), whose text names it.

    Args:
        file: as the user named it. what: it should be: "JSON", "a picture". place: in it. advice: what to do.

    Raises:
        InputError. FileNotFoundError and ImportError stay as they are.
    """
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except InputError as error:
        if error.file or type(error) is not InputError:
            raise
        more = "" if error.advice else advice
        raise kind(str(error), file=file, place=place, advice=more) from error
    except Exception as error:  # decoders and parsers raise anything on foreign bytes
        wrong = f"damaged, or not {what}: {reason(error)}" if what else reason(error)
        raise kind(wrong, file=file, place=place, advice=advice) from error


def reason(error: BaseException) -> str:
    """What to say of an exception that a library raised."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = one_line(error, 200)
    if isinstance(error, (OSError, ValueError)) and text and not isinstance(error, UnicodeError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
