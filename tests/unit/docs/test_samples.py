"""The generated part of `docs/compatibility.md` is what the golden files say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.docs.samples import BEGIN, END, rule_of, section

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs/compatibility.md"


def test_golden_table_of_samples(golden: Callable[[Path, str], None]) -> None:
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    golden(DOCUMENT, before + section(ROOT / "tests/golden/samples") + after)


def test_a_refusal_without_a_rule_is_a_defect() -> None:
    with pytest.raises(AssertionError, match="No rule"):
        rule_of("InferenceService x is invalid: spec.predictor: it looks odd.")
