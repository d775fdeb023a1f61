"""What people read of each service: requests by outcome, and how long they took.

Read from Envoy when asked, every ten seconds or so. Time that a request waited for a pod is in it.
Envoy itself adds times up every five seconds, so these come that much later than the counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kedge.gateway.admin import EnvoyAdmin
from kedge.gateway.revision import key_of
from kedge.settings.gateway import LATENCY_BUCKETS

_FILTER = r"^cluster\.[^.]%2B\.upstream_rq_([245]xx|time)$"
_STATS = f"/stats?usedonly&histogram_buckets=disjoint&filter={_FILTER}"
_LINE = re.compile(rb"cluster\.([^./]+/[^./]+/[^./]+)\.upstream_rq_(2xx|4xx|5xx|time): (.+)")
_BUCKET = re.compile(rb"B[\d.e+]+\(\d+,(\d+)\)")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of a service that ended in some time.

    Attributes:
        ok: answered 2xx; `refused`: 4xx; `failed`: 5xx.
        latency: how many took at most `LATENCY_BUCKETS[i]` milliseconds, and longer than the
            bound before that.
    """

    ok: int = 0
    refused: int = 0
    failed: int = 0
    latency: tuple[int, ...] = (0,) * len(LATENCY_BUCKETS)

    @property
    def requests(self) -> int:
        return self.ok + self.refused + self.failed


class TrafficReader:
    """Reads one Envoy; says what is new since it was last asked."""

    def __init__(self, admin: EnvoyAdmin) -> None:
        self._admin = admin
        self._lines: dict[tuple[bytes, bytes], bytes] = {}
        self._values: dict[tuple[bytes, bytes], tuple[int, ...]] = {}
        self._read = False

    async def read(self) -> dict[str, Traffic]:
        """By `namespace/service`, what ended since the last call; nothing at the first.

        Raises:
            AdminError: Envoy does not answer.
        """
        found = _LINE.findall(await self._admin.get(_STATS))
        first, self._read = not self._read, True
        news: dict[str, dict[bytes, list[int]]] = {}
        for cluster, kind, text in found:
            if self._lines.get((cluster, kind)) == text:
                continue
            self._lines[cluster, kind] = text
            fresh = self._note((cluster, kind), _parse(kind, text))
            if not first:
                parts = news.setdefault(key_of(cluster.decode()), {})
                known = parts.setdefault(kind, [0] * len(fresh))
                parts[kind] = [a + b for a, b in zip(known, fresh, strict=True)]
        return {key: _make_traffic(parts) for key, parts in news.items()}

    def _note(self, name: tuple[bytes, bytes], values: tuple[int, ...]) -> list[int]:
        before = self._values.get(name, (0,) * len(values))
        self._values[name] = values
        if any(new < old for new, old in zip(values, before, strict=True)):
            # Another Envoy, which counts from nothing.
            return list(values)
        return [new - old for new, old in zip(values, before, strict=True)]


def _parse(kind: bytes, text: bytes) -> tuple[int, ...]:
    if kind != b"time":
        return (int(text),)
    return tuple(int(count) for count in _BUCKET.findall(text))


def _make_traffic(parts: dict[bytes, list[int]]) -> Traffic:
    def total(kind: bytes) -> int:
        return parts.get(kind, [0])[0]

    latency = tuple(parts[b"time"]) if b"time" in parts else Traffic().latency
    return Traffic(total(b"2xx"), total(b"4xx"), total(b"5xx"), latency)
