"""Exponential backoff."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Delays that double up to a limit.

    Attributes:
        initial: seconds before the first retry.
        factor: growth per retry.
        limit: longest delay, in seconds.
    """

    initial: float = 0.05
    factor: float = 2.0
    limit: float = 60.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after `failures` failures in a row (at least 1)."""
        exponent = min(max(failures - 1, 0), 64)
        return min(self.initial * self.factor**exponent, self.limit)
