"""What nobody does on an API server alone: the kubelet's and the gateway's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from kedge.api.scheme import HTTP_ROUTE, POD, Kind
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import ApiError, NotFound

T = TypeVar("T")
_PAUSE = 0.1


def pod_ready(ready: bool = True) -> dict[str, Any]:
    """The status of a pod whose containers run."""
    word = "True" if ready else "False"
    types = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "podIP": "10.1.0.1",
        "podIPs": [{"ip": "10.1.0.1"}],
        "conditions": [
            {"type": one, "status": word if "eady" in one else "True", "lastTransitionTime": None}
            for one in types
        ],
    }


def route_answers(route: Object) -> dict[str, Any]:
    """The status of a route whose gateway answers by it."""
    generation = route["metadata"]["generation"]
    conditions = [
        {
            "type": one, "status": "True", "reason": "Accepted", "message": "",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for one in ("Accepted", "ResolvedRefs", "serving.kedge.dev/Answering")
    ]  # fmt: skip
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "kedge-gateway"}
    return {
        "parents": [
            {
                "parentRef": parent,
                "controllerName": "kedge.dev/gateway",
                "conditions": conditions,
            }
        ]
    }


@asynccontextmanager
async def all_goes_well(
    cluster: Cluster, namespace: str, *, gateway: bool = False
) -> AsyncIterator[None]:
    """Every pod becomes ready and every route answers, while the context lasts.

    Args:
        gateway: one tells of the routes itself.
    """

    async def play() -> None:
        while True:
            with suppress(ApiError, OSError):
                await _look(cluster, namespace, gateway)
            await asyncio.sleep(_PAUSE)

    task = asyncio.ensure_future(play())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _look(cluster: Cluster, namespace: str, gateway: bool) -> None:
    for pod in (await cluster.list(POD, namespace)).items:
        metadata, status = pod["metadata"], pod.get("status") or {}
        if metadata.get("deletionTimestamp"):
            await cluster.delete(POD, metadata["name"], namespace, grace_seconds=0)
        elif status.get("phase") != "Running":
            await set_status(cluster, POD, metadata["name"], namespace, pod_ready())
    if gateway:
        return
    for route in (await cluster.list(HTTP_ROUTE, namespace)).items:
        parents = (route.get("status") or {}).get("parents") or [{"conditions": []}]
        seen = [one.get("observedGeneration") for one in parents[0]["conditions"]]
        if seen[:1] != [route["metadata"]["generation"]]:
            name = route["metadata"]["name"]
            await set_status(cluster, HTTP_ROUTE, name, namespace, route_answers(route))


async def set_status(
    cluster: Cluster, kind: Kind, name: str, namespace: str, status: dict[str, Any]
) -> None:
    await cluster.patch(kind, name, {"status": status}, namespace=namespace, subresource="status")


async def find(cluster: Cluster, kind: Kind, name: str, namespace: str) -> Object | None:
    """The object; None where it is not."""
    try:
        return await cluster.get(kind, name, namespace)
    except NotFound:
        return None


async def eventually(look: Callable[[], Awaitable[T]], what: str, seconds: float = 60.0) -> T:
    """What `look` returns once it is something."""
    last: Any = None
    try:
        async with asyncio.timeout(seconds):
            while not (last := await look()):  # noqa: ASYNC110 (another process does it)
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise AssertionError(f"{what} did not come about in {seconds:g} s") from None
    found: T = last
    return found


def condition(isvc: Object, type: str) -> dict[str, Any]:
    """One condition; empty where there is none."""
    for one in (isvc.get("status") or {}).get("conditions") or ():
        if one["type"] == type:
            return dict(one)
    return {}
