"""The written reference says what the commands say."""

from __future__ import annotations

from pathlib import Path

from kedge.cli.reference import reference

WRITTEN = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def test_the_reference_is_up_to_date() -> None:
    assert WRITTEN.read_text() == reference(), (
        "Fix: python -m kedge.cli.reference docs/reference/cli.md"
    )
