"""What is known of requests, over HTTP: `GET /top` and `GET /metrics`.

Reached as the autoscaler's page is, as the Service `kedge-telemetry`; on one machine Envoy also
shows `/metrics` on a port of its own, for Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kedge.lib.asgi import Body, ReadOnly
from kedge.telemetry.exposition import expose
from kedge.telemetry.history import KEPT_SECONDS
from kedge.telemetry.telemetry import Telemetry

SERVICE_NAME = "kedge-telemetry"


def make_app(telemetry: Telemetry, scaling: Callable[[], Iterable[Mapping[str, Any]]]) -> ReadOnly:
    """The application.

    Args:
        scaling: what the autoscaler says of each Deployment.
    """

    async def top(query: Mapping[str, str]) -> Body:
        seconds = float(query.get("seconds") or 60)
        if not 1 <= seconds <= KEPT_SECONDS:
            raise ValueError(f"seconds is {seconds:g}; 1 to {KEPT_SECONDS} are kept")
        namespace, service = query.get("namespace", ""), query.get("service", "")
        return {"seconds": seconds, "items": await telemetry.top(namespace, service, seconds)}

    async def metrics(query: Mapping[str, str]) -> Body:
        return expose(telemetry.totals, telemetry.pods(), scaling())

    return ReadOnly({"/top": top, "/metrics": metrics})
