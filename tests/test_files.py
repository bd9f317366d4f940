"""Files that nobody sees half of: atomic files and folders, tables with several writers, the error table."""

from __future__ import annotations

import csv
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from clipseg_ws.files import (
    TEMPORARY,
    ErrorsCsv,
    append_csv,
    atomic_folder,
    atomic_write,
    remove_unfinished,
)
from clipseg_ws.together import machine


def test_atomic_write_replaces_or_leaves_as_it_was(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".txt" and not path.exists()
        temporary.write_text("one")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and os.listdir(path.parent) == ["a.txt"]
    umask = os.umask(0o027)
    try:
        with atomic_write(path):
            pass
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640


def test_concurrent_writers_leave_one_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    seen: set[str] = set()

    def write(letter: str) -> None:
        for _ in range(20):
            with atomic_write(path) as temporary:
                temporary.write_text(letter * 50_000)
            seen.update({text for text in [path.read_text()] if len(text) != 50_000 or len(set(text)) != 1})

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not seen and os.listdir(tmp_path) == ["a.txt"]


def _append(folder: Path, who: int, barrier) -> None:
    for number in range(60):
        barrier.wait()  # all meet at a file that is not there yet
        append_csv(folder / f"{number}.csv", {"who": who, "text": 'x, "y"\n' * 50})


def test_append_csv_from_several_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [context.Process(target=_append, args=(tmp_path / "new", who, barrier)) for who in range(4)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    assert [w.exitcode for w in workers] == [0] * 4
    for path in (tmp_path / "new").iterdir():  # one header, all rows whole
        rows = list(csv.reader(path.open(newline="")))
        assert rows[0] == ["who", "text"] and sorted(rows[1:]) == [[str(w), 'x, "y"\n' * 50] for w in range(4)]


def test_append_csv_waits_for_the_lock(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "e.csv"
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=append_csv, args=(path, {"a": 1}))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and path.stat().st_size == 0
    thread.join()
    assert path.read_text() == "a\n1\n"


def test_append_csv_mends_an_unfinished_line_and_refuses_other_columns(tmp_path):
    path = tmp_path / "e.csv"
    append_csv(path, {"a": 1, "b": "é"})
    with path.open("a") as file:
        file.write("2,ki")  # killed here
    append_csv(path, {"a": 3, "b": "z"})
    assert path.read_text(encoding="utf-8") == "a,b\n1,é\n2,ki\n3,z\n"
    with pytest.raises(ValueError, match="columns a, b; the row has a, c"):
        append_csv(path, {"a": 1, "c": 2})


def test_errors_csv(tmp_path):
    errors = ErrorsCsv(tmp_path / "errors.csv")
    assert not errors.path.exists() and errors.count == 0
    errors.add(Path("x/a.jpg"), ValueError("bad,\n  very bad"))
    errors.add("b.jpg", OSError())
    assert errors.count == 2
    assert list(csv.reader(errors.path.open())) == [
        ["image", "error", "message"], ["x/a.jpg", "ValueError", "bad, very bad"], ["b.jpg", "OSError", ""],
    ]  # fmt: skip


def test_atomic_folder_replaces_as_a_whole_or_leaves_as_it_was(tmp_path):
    path = tmp_path / "sub" / "a_masks"
    with atomic_folder(path) as temporary:
        assert temporary.parent == path.parent and temporary.name.startswith(TEMPORARY) and not path.exists()
        (temporary / "cat.png").write_text("1")
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as temporary:
        (temporary / "dog.png").write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(path) == ["cat.png"] and os.listdir(path.parent) == ["a_masks"]
    with atomic_folder(path) as temporary:
        (temporary / "dog.png").write_text("2")
    assert os.listdir(path) == ["dog.png"] and os.listdir(path.parent) == ["a_masks"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.mkdir()
    (path / "old").touch()
    rename = os.rename

    def refuse(one, other):
        if Path(other) == path and not list(Path(one).glob("old")):
            raise PermissionError("no")
        rename(one, other)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError), atomic_folder(path):
        pass
    assert os.listdir(path) == ["old"] and os.listdir(tmp_path) == ["a"]


def test_concurrent_folders_leave_one_whole(tmp_path):
    path = tmp_path / "a"

    def write(letter: str) -> None:
        for _ in range(30):
            with atomic_folder(path) as temporary:
                for number in range(3):
                    (temporary / f"{letter}{number}").touch()

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert os.listdir(tmp_path) == ["a"]
    assert len(os.listdir(path)) == 3 and len({name[0] for name in os.listdir(path)}) == 1


def test_what_killed_writers_left_goes(tmp_path):
    gone = f"{TEMPORARY}{machine()}-99999999-"  # no process has that number
    (tmp_path / "sub" / f"{gone}1").mkdir(parents=True)
    (tmp_path / "sub" / f"{gone}1" / "cat.png").touch()
    (tmp_path / f"{gone}2.png").touch()
    (tmp_path / "a.png").touch()
    remove_unfinished(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.png", "sub"]
