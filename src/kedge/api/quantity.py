"""Kubernetes quantities: `100m`, `2Gi`, `1e3`."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_FORM = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(|[eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)$")
_FACTORS = {
    "": Decimal(1),
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    **{unit: Decimal(1000) ** (i + 1) for i, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024) ** (i + 1) for i, unit in enumerate("KMGTPE")},
}


def parse_quantity(value: object) -> Decimal | None:
    """The amount that a quantity means; None when it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _FORM.match(str(value))
    if found is None:
        return None
    number, suffix = found.groups()
    try:
        if suffix[:1] in ("e", "E") and len(suffix) > 1:
            return Decimal(number + suffix)
        return Decimal(number) * _FACTORS[suffix]
    except InvalidOperation:
        return None
