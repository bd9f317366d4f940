"""Every block of README is run (those of docs with -m slow), the embedded model in place of weights not here."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import typer
from conftest import small_dino
from doc_blocks import PAGES, ROOT, Block, blocks_of, links_of, make_world, understood

from clipseg_ws import segmenter
from clipseg_ws.backbones import load_backbone
from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.cli import app as cli

DATA = ("csv", "json", "yaml", "xml")
# what no test can run: the network, a machine more, minutes, or a server
OUTSIDE = re.compile(
    r"pip install|clipseg-ws (download|bench|doctor|serve)|--web|ray start|accelerate launch"
    r"|eval prepare|eval\.experiments|sam3?:facebook"
    r"|^curl |^cvat-cli |import supervision|adapters\.fiftyone|autodistill_clipseg_ws",
    re.MULTILINE,
)
SIDE = 96  # of the pictures that the model sees here


@cache
def nano() -> Any:
    backbone = load_backbone("nano", dtype="float32")
    backbone.card = ModelCard(dict(backbone.card.recommended) | {"short_side": SIDE})  # as a model that takes any word
    backbone.recommended, backbone.known_classes = backbone.card.recommended, backbone.card.known_classes
    speak = backbone.embed_text

    def embed_text(texts: Sequence[str], batch_size: int = 256) -> Any:
        """Of many prompts for one thing one is read: 80 templates would take most of the time."""
        read = [understood(text) for text in texts]
        distinct = list(dict.fromkeys(read))
        return speak(distinct, batch_size)[[distinct.index(text) for text in read]]

    backbone.embed_text = embed_text
    return backbone


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    make_world(root)
    return root


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """A copy of the world to stand in, without any downloaded weights."""
    here = tmp_path / "here"
    shutil.copytree(world, here, ignore=shutil.ignore_patterns(".cache"))
    monkeypatch.chdir(here)
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(world / ".cache"))  # text embeddings, shared by the pages
    monkeypatch.setenv("COLUMNS", "120")
    return here


@pytest.fixture
def small_weights(monkeypatch):
    monkeypatch.setattr(segmenter, "load_backbone", lambda name, **how: nano())
    monkeypatch.setattr(segmenter, "load_features", lambda *how: small_dino())


def call(words: list[str], monkeypatch) -> int:
    """Run a command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", words)
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def run_shell(block: Block, monkeypatch, capsys) -> None:
    for words in block.commands():
        assert words[0] == "clipseg-ws", f"{block.place}: {words[0]} cannot be tried; mark the block 'not run: why'"
        code = call(words, monkeypatch)
        printed = capsys.readouterr()
        assert code == 0, f"{block.place}: {' '.join(words)}\n{printed.out[-2000:]}{printed.err[-2000:]}"


# README at every run; the other pages take minutes
RUNS = [pytest.param(page, marks=[pytest.mark.slow] if page.parent.name == "docs" else []) for page in PAGES]


@pytest.mark.parametrize("page", RUNS, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_in_order(page, place, small_weights, monkeypatch, capsys):
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.kind in DATA and block.mark.startswith("saved as "):
            file = place / block.mark.removeprefix("saved as ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, "utf-8")
        elif block.mark.startswith("not run: ") or block.kind == "console":
            continue
        elif block.kind == "bash":
            run_shell(block, monkeypatch, capsys)
        elif block.kind == "python":
            exec(compile("\n" * block.line + block.text, block.page, "exec"), names)


def every_block() -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page)]


def test_blocks_are_of_known_kinds_and_marks():
    blocks = every_block()
    assert len(blocks) > 40
    for block in blocks:
        assert block.kind in (*DATA, "bash", "python", "console", "text", ""), block.place
        assert block.mark == "" or re.fullmatch(r"not run: \w.+|saved as [\w./]+", block.mark), block.place
        if block.mark.startswith("not run"):
            assert OUTSIDE.search(block.text), f"{block.place} could be run: nothing in it needs what tests lack"
        assert not OUTSIDE.search(block.text) or block.mark or block.kind in ("console", "text"), block.place


def test_marked_blocks_name_commands_and_options_that_exist():
    group: Any = typer.main.get_command(cli.app)
    count = 0
    for block in every_block():
        if block.kind == "bash" and block.mark.startswith("not run"):
            for words in block.commands():
                words = words[words.index("clipseg-ws") + 1 :] if "clipseg-ws" in words else []
                command = group
                while words and words[0] in getattr(command, "commands", {}):
                    command = command.commands[words.pop(0)]
                known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
                for name in ("run", "model"):  # of groups of which one is meant where none is named
                    known |= {o for p in getattr(command, "commands", {}).get(name, command).params for o in p.opts}
                assert {word for word in words if word.startswith("-")} <= known, f"{block.place}: {words}"
                count += bool(words) or command is not group
    assert count >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in links_of(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, target


def consoles() -> list[Block]:
    return [block for block in every_block() if block.kind == "console"]


@pytest.mark.parametrize("block", consoles(), ids=lambda block: block.place)
def test_what_a_console_shows_is_what_is_printed(block, place, monkeypatch, capsys):
    """ "$ command", then what it prints; "..." stands for anything."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        shown = Block(block.page, block.line, "bash", line, "")
        (words,) = shown.commands()
        call(words, monkeypatch)
        printed = capsys.readouterr()
        got, wanted = (" ".join(text.split()) for text in (printed.out + printed.err, expected))
        pattern = ".*?".join(re.escape(piece) for piece in wanted.split("..."))
        assert re.search(pattern, got), f"{block.place}: {line}\nexpected {wanted}\ngot      {got}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120
