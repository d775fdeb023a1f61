"""Each `*.in.yaml` here becomes its `*.out.yaml`: one case per form a service can have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.golden.rendering import load, show

from kedge.modes.render import render

HERE = Path(__file__).parent
INPUTS = sorted(HERE.glob("*.in.yaml"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_golden(path: Path, golden: Callable[[Path, str], None]) -> None:
    rendered = render(load(path))
    golden(path.with_name(path.name.replace(".in.", ".out.")), show(rendered))


def test_every_golden_file_has_its_input() -> None:
    outputs = {path.name.replace(".out.", ".in.") for path in HERE.glob("*.out.yaml")}
    assert outputs == {path.name for path in INPUTS}
