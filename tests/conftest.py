"""Golden files, for the whole suite: a text is compared with a file, or written into it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="Write the golden files anew instead of comparing with them; review the difference.",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a golden file, or write the file with `--rewrite-golden`."""
    rewrite = bool(request.config.getoption("--rewrite-golden"))

    def compare(path: Path, text: str) -> None:
        if rewrite:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        there = path.read_text() if path.exists() else ""
        difference = difflib.unified_diff(
            there.splitlines(), text.splitlines(), str(path), "now", lineterm="", n=3
        )
        assert there == text, "\n".join(["differs; `make golden` rewrites it:", *difference])

    return compare
