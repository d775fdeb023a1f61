"""Requests counted by outcome and by how long they took."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from kedge.settings.gateway import LATENCY_BUCKETS

_SIZE = len(LATENCY_BUCKETS)


@dataclass
class Counts:
    """Requests that ended within some time.

    Attributes:
        ok: answered 2xx; refused: 4xx; failed: 5xx.
        latency: how many took at most `LATENCY_BUCKETS[i]` milliseconds and longer than the bound
            before that.
    """

    ok: int = 0
    refused: int = 0
    failed: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * _SIZE)

    @property
    def requests(self) -> int:
        return self.ok + self.refused + self.failed

    def add(self, other: Counts) -> None:
        self.ok += other.ok
        self.refused += other.refused
        self.failed += other.failed
        self.latency = [a + b for a, b in zip(self.latency, other.latency, strict=True)]

    def quantile(self, share: float) -> float | None:
        """Milliseconds that this share of the requests took at most; None without any.

        Within a bucket the requests are taken to be spread evenly.
        """
        total = sum(self.latency)
        if not total:
            return None
        left = share * total
        lower = 0.0
        for bound, count in zip(LATENCY_BUCKETS, self.latency, strict=True):
            if count and left <= count:
                return lower + (bound - lower) * left / count
            left -= count
            lower = bound
        return float(LATENCY_BUCKETS[-1])

    def pack(self) -> bytes:
        """The latencies, without the empty buckets at the end."""
        used = next((i + 1 for i in reversed(range(_SIZE)) if self.latency[i]), 0)
        return array("Q", self.latency[:used]).tobytes()


def unpack(data: bytes) -> list[int]:
    """The latencies that `pack` made."""
    found = array("Q")
    found.frombytes(data)
    return [*found, *[0] * (_SIZE - len(found))][:_SIZE]


def make_counts(ok: int, refused: int, failed: int, latency: Sequence[int]) -> Counts:
    """Counts as they come over the wire; a latency by other bounds than ours is left out."""
    fits = len(latency) == _SIZE
    return Counts(ok, refused, failed, list(latency) if fits else [0] * _SIZE)
