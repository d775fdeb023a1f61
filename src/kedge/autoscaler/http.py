"""What the autoscaler shows over HTTP: `GET /scaling`, with `namespace` and `service` to choose.

On one machine the API serves it as it serves any Service's proxy; on Kubernetes the API server
reaches it through the Service `kedge-autoscaler`. Either way a client asks at
`/api/v1/namespaces/{kedge}/services/kedge-autoscaler:http/proxy/scaling?namespace=...&service=...`.
"""

from __future__ import annotations

from collections.abc import Mapping

from kedge.autoscaler.autoscaler import Autoscaler
from kedge.lib.asgi import Body, ReadOnly

SERVICE_NAME = "kedge-autoscaler"


def make_app(autoscaler: Autoscaler) -> ReadOnly:
    """The application."""

    async def scaling(query: Mapping[str, str]) -> Body:
        return {
            "missing": autoscaler.missing,
            "configProblem": autoscaler.config_problem,
            "gateways": autoscaler.traffic.names,
            "items": autoscaler.describe(query.get("namespace", ""), query.get("service", "")),
        }

    return ReadOnly({"/scaling": scaling})
