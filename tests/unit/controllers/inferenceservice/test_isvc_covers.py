"""What is applied again: not what an API server merely writes in other words."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.controllers.inferenceservice.applier import covers


def resources(**given: Any) -> dict[str, Any]:
    return {"containers": [{"resources": {"limits": given}}]}


@pytest.mark.parametrize(
    ("live", "wanted"), [("1", 1), ("500m", 0.5), ("500m", "0.5"), ("2Gi", "2048Mi"), ("2", "2.0")]
)
def test_a_quantity_in_another_form_is_the_same(live: Any, wanted: Any) -> None:
    assert covers(resources(cpu=live), resources(cpu=wanted))


@pytest.mark.parametrize(("live", "wanted"), [("1", 2), ("1", "1Gi"), ("1", "all"), ({}, "1")])
def test_another_quantity_is_not(live: Any, wanted: Any) -> None:
    assert not covers(resources(cpu=live), resources(cpu=wanted))


def test_elsewhere_texts_are_compared_as_they_are() -> None:
    assert not covers({"labels": {"version": "1"}}, {"labels": {"version": "1.0"}})
    assert not covers({"labels": {"version": "1"}}, {"labels": {"version": 1}})
