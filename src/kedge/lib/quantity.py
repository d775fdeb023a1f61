"""Kubernetes quantities: `500m`, `2Gi`, `1e3`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import lru_cache

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** (i + 1) for i, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": Decimal(1024) ** (i + 1) for i, suffix in enumerate("KMGTPE")},
}


@lru_cache(maxsize=1024, typed=True)
def parse_quantity(text: str | int | float) -> Decimal:
    """The number that a quantity stands for, in the unit's base (cores, bytes, pieces).

    Raises:
        ValueError: it is no quantity.
    """
    number = str(text).strip()
    suffix = ""
    for length in (2, 1):
        if number[-length:] in _SUFFIXES and not number[-length:].isdigit():
            number, suffix = number[:-length], number[-length:]
            break
    try:
        return Decimal(number) * _SUFFIXES[suffix]
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a quantity such as 500m or 2Gi") from None


def format_bytes(number: int) -> str:
    """A size for people, in the binary unit that keeps it short."""
    size = float(number)
    for unit in ("B", "Ki", "Mi", "Gi", "Ti"):
        if size < 1024 or unit == "Ti":
            break
        size /= 1024
    return f"{size:.0f}{unit}" if size >= 100 or size == int(size) else f"{size:.1f}{unit}"
