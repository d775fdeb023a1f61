"""Joins a gateway to the autoscaler: what it knows of its traffic goes up the stream."""

from __future__ import annotations

from pathlib import Path

from kedge.autoscaler.signals_client import Find, SignalsClient
from kedge.autoscaler.wire import Count
from kedge.gateway.gateway import Gateway


def make_signals(place: Path | Find, name: str, gateway: Gateway) -> SignalsClient:
    """The reports of a gateway of that name to the autoscaler at `place`."""

    async def count() -> dict[str, Count]:
        news = await gateway.traffic.read()
        return {key: (one.ok, one.refused, one.failed, one.latency) for key, one in news.items()}

    return SignalsClient(place, name, gateway.demand, count=count)
