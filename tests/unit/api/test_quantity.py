from __future__ import annotations

from decimal import Decimal

import pytest

from kedge.api.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", 1), (2, 2), (0.5, "0.5"), ("100m", "0.1"), ("1.5Gi", 1610612736), ("2k", 2000),
        ("1e3", 1000), ("1E3", 1000), ("1E", 10**18), ("-1", -1), (".5", "0.5"), ("5n", "5e-9"),
    ],
)  # fmt: skip
def test_quantities(text: object, amount: int | str) -> None:
    assert parse_quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1gi", "1Kii", True, None, [], "one", "1e"])
def test_not_quantities(text: object) -> None:
    assert parse_quantity(text) is None
