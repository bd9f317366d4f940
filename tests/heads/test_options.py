"""Options of a training: names, types and ranges from Python and from the command line."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from clipseg_ws.cli.app import app
from clipseg_ws.heads import HEADS, LOSSES, SCHEMES, WEIGHTINGS
from clipseg_ws.heads.options import WEIGHED, TrainConfig
from clipseg_ws.run.training.options import Recipe
from clipseg_ws.values import read_pairs


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("lr=1e-4", "lr", 1e-4), ("steps=1e3", "steps", 1000), ("steps=20", "steps", 20), ("clip=0", "clip", 0.0),
        ("precision=bfloat16", "precision", "bfloat16"), ("region=0.5", "region", 0.5), ("local=1", "local", 1.0),
    ],
)  # fmt: skip
def test_values_as_a_user_writes_them(text, key, value):
    values = TrainConfig.of(**read_pairs([text], "--train", "lr=1e-3")).as_dict()
    assert values[key] == value and type(values[key]) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr=fast", "lr='fast'; a finite number of at least 0 is needed, for example 0.001"),
        ("lr=nan", "lr='nan'; a finite number of at least 0"),
        ("lr=.nan", "lr=nan; a finite number of at least 0"),
        ("lr=.inf", "lr=inf; a finite number of at least 0"),
        ("steps=0", "steps=0; a whole number of at least 1 is needed, for example 1500"),
        ("steps=2.5", "steps=2.5; a whole number of at least 1"),
        ("patience=true", "patience=True; a whole number of at least 0"),
        ("ema=1", "ema=1.0; a finite number in [0, 1) is needed, for example 0.99"),
        ("background=0", "background=0.0; a finite number in (0, 1]"),
        ("power=0", "power=0.0; a finite number above 0 is needed, for example 2.0"),
        ("threshold=95", "threshold=95.0; a finite number in [0, 1]"),
        ("region=-1", "region=-1.0; a finite number of at least 0"),
        ("lr=[1, 2]", "lr=[1, 2]; a finite number"),
        ("weighting=hrad", "weighting='hrad'; did you mean 'hard'? choose one of hard, soft"),
        ("precision=16", "precision=16; choose one of float32, bfloat16, float16"),
        ("weight_deacy=1", "training option 'weight_deacy' is unknown; did you mean 'weight_decay'?"),
        ("regoin=1", "did you mean 'region'?"),
        ("lr", "--train 'lr': it has no '='; write KEY=VALUE, for example --train lr=1e-3"),
        ("lr=[1", "--train 'lr=[1': "),
    ],
)
def test_wrong_values_are_one_clear_error(text, said, tmp_path):
    words = ["train", str(tmp_path), "--images", str(tmp_path), "--model", "nano", "--train", text]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ValueError) and said in str(result.exception)
    assert "\n" not in str(result.exception)


def test_values_go_round():
    config = TrainConfig.of(steps=7, region=0.25, weighting="soft")
    assert TrainConfig.of(**config.as_dict()).as_dict() == config.as_dict()
    assert config.given(local=0.5).as_dict() == config.as_dict() | {"local": 0.5}
    assert config.least == 0 and TrainConfig.of(threshold=0.6).least == 0.6
    with pytest.raises(ValueError, match="loss 'ce' is unknown or has no weight"):
        TrainConfig(losses={"ce": 2.0})


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--kind", "decoders", "head 'decoders' is unknown; did you mean 'decoder'? choose one of linear"),
        (
            "--kind",
            "decoder(hiden=3)",
            "head 'decoder' has no parameter 'hiden'; did you mean 'hidden'? its parameters: hidden, depth",
        ),
        ("--kind", "decoder(hidden=three)", "decoder.hidden='three' is str; a whole number is needed"),
        ("--scheme", "round", "scheme 'round' is unknown; did you mean 'rounds'?"),
        ("--scheme", "rounds(rounds=many)", "rounds.rounds='many' is str; a whole number is needed"),
        ("--scheme", "incremental", "add_to goes with the scheme 'incremental'"),
    ],
)
def test_wrong_heads_and_schemes(option, value, said, tmp_path):
    words = ["train", str(tmp_path), "--images", str(tmp_path), "--model", "nano", option, value]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ValueError) and said in str(result.exception)


def test_help_names_everything_and_imports_no_torch():
    code = (
        "import sys\nfrom clipseg_ws.cli.train import train\nimport typer\nfrom typer.testing import CliRunner\n"
        "app = typer.Typer()\napp.command()(train)\n"
        "print(CliRunner().invoke(app, ['--help'], env={'COLUMNS': '400'}).output)\n"
        "print('HEAVY', sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in printed
    for name in (*HEADS, *WEIGHTINGS, *SCHEMES, *WEIGHED, *TrainConfig().as_dict()):
        assert re.search(rf"\b{name}\b", printed), name


def test_recipe():
    assert Recipe(add_to="old.safetensors").steps.name == "incremental" and Recipe().steps.name == "plain"
    assert Recipe(scheme="rounds(sure=0.5)").as_dict()["scheme"] == "rounds(rounds=2, sure=0.5)"
    assert Recipe(scheme="rounds").as_dict() == Recipe(scheme="rounds(rounds=2)").as_dict()
    with pytest.raises(ValueError, match="add_to goes with"):
        Recipe(scheme="rounds", add_to="old.safetensors")
    with pytest.raises(ValueError, match="has no parameter"):
        Recipe(kind="linear", options={"hidden": 3})
    assert set(WEIGHED) == set(LOSSES) - {"ce"}
