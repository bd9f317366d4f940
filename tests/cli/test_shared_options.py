"""Every option has one name, one meaning and one default, and its help is made from the registries."""

from __future__ import annotations

from collections import defaultdict

import pytest
import typer

from clipseg_ws.cli.app import COMMANDS, app
from clipseg_ws.config import METHODS
from clipseg_ws.output.formats import FORMATS
from clipseg_ws.refine import REFINERS
from clipseg_ws.run import ENGINES
from clipseg_ws.text.lists import list_backgrounds, list_vocabularies
from clipseg_ws.weak import MARK_FORMATS, TAG_FORMATS


def commands(group, path: tuple[str, ...] = ()) -> dict:
    """Every command by the words that call it."""
    found = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, (*path, name))
        else:
            found[" ".join((*path, name))] = command
    return found


ALL = commands(typer.main.get_command(app))
MASKS = ("predict", "fewshot", "pseudo")
# where a command's own default is the right one, and where a word means something else; the reason beside it
OWN = {
    ("pseudo", "--method"): "the confidence threshold is that of clip-es",
    ("pseudo", "--format"): "mask and confidence are what pseudo masks are",
    ("pseudo", "--output"): "a data set with settings of its own, kept apart from other results",
    ("demo", "--model"): "the demonstration needs no network",
    ("demo", "--seed"): "a held-out scene",
    ("eval run", "--model"): "the data set's own",
    ("eval run", "--method"): "the protocol's own, and several at once",
    ("eval prepare", "--root"): "must be given",
    ("bench model", "--model"): "random weights",
    ("bench fewshot", "--model"): "random weights",
    ("bench model", "--dtype"): "several at once",
    ("bench fewshot", "--dtype"): "one of two",
}
# a number or a place of whatever the command makes
LOCAL = {"--output", "--size", "--count", "--shots", "--top"}
TRAINING = ("train", "bench heads")  # options of training, see test_train


def options(name: str) -> dict:
    """The options of a command by their long names."""
    params = [p for p in ALL[name].params if p.param_type_name == "option"]
    return {next(word for word in p.opts if word.startswith("--")): p for p in params}


def places() -> dict[str, list[str]]:
    """Option -> the commands that have it."""
    found = defaultdict(list)
    for name in ALL:
        for option in options(name):
            found[option].append(name)
    return found


SHARED = sorted(option for option, names in places().items() if len(names) > 1 and option not in LOCAL)


@pytest.mark.parametrize("option", SHARED)
def test_one_meaning_and_one_default(option):
    seen = defaultdict(list)
    for name in places()[option]:
        if (name, option) not in OWN and name not in TRAINING:
            found = options(name)[option]
            seen[found.help, found.default, tuple(found.opts)].append(name)
    assert len(seen) <= 1, dict(seen)


@pytest.mark.parametrize("name", MASKS)
def test_commands_that_make_masks_take_the_same(name):
    there = options(name)
    assert {"--tags", "--marks", "--format", "--limit", "--shard", "--workers", "--engine", "--features"} <= set(there)
    assert name == "predict" or {"--support", "--support-dir", "--bank"} <= set(there)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("method", METHODS),
        ("refine", [*REFINERS, "pamr(iterations=5)"]),
        ("format", FORMATS),
        ("engine", ENGINES),
        ("classes", list_vocabularies()),
        ("background", [*list_backgrounds(), "auto"]),
        ("tags", [entry.about["title"] for entry in TAG_FORMATS.values()]),
        ("marks", [entry.about["title"] for entry in MARK_FORMATS.values()]),
    ],
)
def test_help_names_all_that_there_is(option, words):
    text = options("pseudo")[f"--{option}"].help
    assert all(word in text for word in words)


@pytest.mark.parametrize("name", ALL)
def test_every_option_says_what_it_is(name):
    for option in ALL[name].params:
        assert option.help, f"{name}: {option.name}"


def test_the_commands_are_listed_in_the_order_of_the_table():
    group = typer.main.get_command(app)
    assert group.list_commands(None) == list(COMMANDS)
