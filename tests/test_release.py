"""What a release hangs on: one place for the version, everything that the code reads in the wheel, a workflow."""

from __future__ import annotations

import fnmatch
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import clipseg_ws

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "clipseg_ws.__version__"}
    assert f"## {clipseg_ws.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_files_of_the_package_are_in_the_wheel():
    """Whatever git keeps beside the modules is package data, or is named here as not needed."""
    listed = subprocess.run(["git", "ls-files", "clipseg_ws", "prompts"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("no checkout of git")
    data = PROJECT["tool"]["setuptools"]["package-data"]
    forgotten = []
    for line in listed.stdout.split("\n"):
        path = Path(line)
        if line and path.suffix != ".py":
            package = ".".join(path.parts[:-1]).replace("prompts", "clipseg_ws.prompts")
            if not any(fnmatch.fnmatch(path.name, pattern) for pattern in data.get(package, [])):
                forgotten.append(line)
    licences = PROJECT["project"]["license-files"]
    assert [line for line in forgotten if not any(fnmatch.fnmatch(line, pattern) for pattern in licences)] == []


def test_the_workflow_builds_before_it_publishes():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text("utf-8"))
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads "on" as true
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert any(".ci/release" in step.get("run", "") for step in build["steps"]) and publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"} and "secrets" not in str(workflow)
