"""What became of requests, service by service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import INFERENCE_SERVICE
from kedge.client.control import ControlClient
from kedge.client.errors import NotServed
from kedge.cluster.errors import NotFound
from kedge.settings.serving import DEFAULT_NAMESPACE

_TOP = f"/api/v1/namespaces/{DEFAULT_NAMESPACE}/services/kedge-telemetry:http/proxy/top"
_FRONT = ("transformer", "predictor", "explainer")
"""Who of a service's components is asked by clients: the first that is there."""


@dataclass(frozen=True)
class Usage:
    """One component's requests within some time.

    Attributes:
        refused: answered 4xx; failed: 5xx.
        p50, p99: milliseconds; None without requests.
    """

    namespace: str
    service: str
    component: str
    requests: int
    per_second: float
    refused: int
    failed: int
    p50: float | None
    p99: float | None
    ready: int
    desired: int

    @property
    def refused_share(self) -> float:
        return self.refused / self.requests if self.requests else 0.0

    @property
    def failed_share(self) -> float:
        return self.failed / self.requests if self.requests else 0.0


async def gather(
    client: ControlClient,
    name: str = "",
    namespace: str | None = None,
    *,
    everywhere: bool = False,
    seconds: float = 60.0,
    components: bool = False,
) -> list[Usage]:
    """The busiest first; of each service the component that clients ask, or all `components`.

    Raises:
        NotFound: there is no InferenceService of that name.
        NotServed: the API leads to nobody who counts.
    """
    if name:
        await client.get(INFERENCE_SERVICE, name, namespace)
    where = "" if everywhere else client.namespace_of(INFERENCE_SERVICE, namespace) or ""
    params = {"namespace": where, "service": name, "seconds": f"{seconds:g}"}
    try:
        said = await client.read(_TOP, {key: value for key, value in params.items() if value})
    except NotFound as error:
        raise NotServed(
            f"{client.access.server} leads to nobody who counts requests.",
            fix="Use the kubeconfig of an API under which Kedge runs; on Kubernetes your account"
            " needs `get` on `services/proxy` in the namespace kedge.",
        ) from error
    found = [to_usage(item) for item in said["items"]]
    chosen = found if components else in_front(found)
    return sorted(chosen, key=lambda one: (-one.requests, one.namespace, one.service))


def to_usage(item: dict[str, Any]) -> Usage:
    """What the API says of one component."""
    return Usage(
        namespace=item["namespace"],
        service=item["service"],
        component=item["component"],
        requests=item["requests"],
        per_second=item["requestsPerSecond"],
        refused=item["refused"],
        failed=item["failed"],
        p50=item["p50"],
        p99=item["p99"],
        ready=item["ready"],
        desired=item["desired"],
    )


def in_front(found: list[Usage]) -> list[Usage]:
    """Of each service the component that clients ask; the others are asked by that one."""

    def rank(one: Usage) -> int:
        return _FRONT.index(one.component) if one.component in _FRONT else len(_FRONT)

    chosen: dict[tuple[str, str], Usage] = {}
    for one in sorted(found, key=rank):
        chosen.setdefault((one.namespace, one.service), one)
    return list(chosen.values())
