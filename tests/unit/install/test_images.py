"""The Dockerfile has the images that objects name, and they run what the local node would run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.kubernetes.dockerfile import DOCKERFILE, ROOT, last, stages

from kedge.install.render import render, to_yaml
from kedge.install.values import Values
from kedge.settings.node import DEFAULT_IMAGES

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


RULES = {
    rule.pattern.removeprefix("kedge/").removesuffix("*"): rule.argv
    for rule in DEFAULT_IMAGES
    if rule.pattern.startswith("kedge/")
}


@pytest.mark.parametrize("image", RULES)
def test_an_image_runs_what_stands_for_it_on_one_machine(image: str) -> None:
    assert tuple(json.loads(last(image, "ENTRYPOINT"))) == RULES[image]


def test_every_image_that_is_named_is_built() -> None:
    named = set(re.findall(r"image: kedge/([\w-]+):", to_yaml(render(Values()))))
    assert named
    assert named <= set(stages())


@pytest.mark.parametrize("name", sorted({*RULES, "controller", "gateway", "envoy"}))
def test_no_image_runs_as_root(name: str) -> None:
    assert last(name, "USER") == "65532:65532"


def test_every_runtime_extra_has_an_image_and_every_image_an_extra() -> None:
    installed = set(re.findall(r"\.\[([\w,]+)\]", DOCKERFILE.read_text()))
    used = {extra for extras in installed for extra in extras.split(",")}
    assert used <= set(EXTRAS)
    built = {re.search(r"serve\", \"(\w+)", line)[1] for line in _entrypoints()}  # type: ignore[index]  # each has one
    assert built - {"python"} == used - {"control", "server"}


def _entrypoints() -> list[str]:
    return [
        line
        for stage in stages().values()
        for line in stage.lines
        if line.startswith("ENTRYPOINT") and '"serve"' in line
    ]


def test_hadolint_has_nothing_to_say() -> None:
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=beside)
    if hadolint is None:
        pytest.skip("there is no hadolint")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
