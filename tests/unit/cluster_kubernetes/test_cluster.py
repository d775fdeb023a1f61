"""The HTTP client against a server that answers from a script, over a unix socket."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from kedge.api.scheme import DEPLOYMENT, NAMESPACE, POD
from kedge.cluster import errors
from kedge.cluster.base import EventType, PatchType
from kedge.cluster.kubernetes import KubernetesCluster

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Keeps what was asked; each answer is used once."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.asked: list[tuple[str, str, dict[str, str], bytes, str]] = []
        self.answers: list[Answer] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(
            (
                request.method,
                request.path,
                dict(request.query),
                await request.read(),
                request.headers.get("Content-Type", ""),
            )
        )
        return await self.answers.pop(0)(request)

    def will_answer(
        self, body: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status, headers=headers)

        self.answers.append(answer)

    def will_stream(self, *chunks: bytes, cut: bool = False) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            if cut and request.transport is not None:
                request.transport.abort()
            return response

        self.answers.append(answer)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "api.sock")
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(server.socket)).start()
        yield server
        await runner.cleanup()


@pytest.fixture
async def cluster(server: Server) -> AsyncIterator[KubernetesCluster]:
    async with KubernetesCluster.from_unix_socket(server.socket) as cluster:
        yield cluster


async def test_lists_all_pages_and_says_what_the_items_are(
    server: Server, cluster: KubernetesCluster
) -> None:
    server.will_answer(
        {"metadata": {"resourceVersion": "7", "continue": "c"}, "items": [{"metadata": {}}]}
    )
    server.will_answer({"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {}}]})
    listed = await cluster.list(DEPLOYMENT, "ns", labels="a=b", fields="metadata.name=x")
    assert listed.resource_version == "7"
    assert listed.items == 2 * [{"metadata": {}, "apiVersion": "apps/v1", "kind": "Deployment"}]
    assert server.asked[1][1:3] == (
        "/apis/apps/v1/namespaces/ns/deployments",
        {
            "limit": "1000",
            "labelSelector": "a=b",
            "fieldSelector": "metadata.name=x",
            "continue": "c",
        },
    )


async def test_watch_joins_lines_and_asks_for_bookmarks(
    server: Server, cluster: KubernetesCluster
) -> None:
    first = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "a"}}}).encode() + b"\n"
    second = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n'
    server.will_stream(first[:10], first[10:] + second[:5], second[5:])
    found = [event async for event in cluster.watch(POD, resource_version="5")]
    assert [event.type for event in found] == [EventType.ADDED, EventType.BOOKMARK]
    assert found[0].object == {"metadata": {"name": "a"}}
    asked = server.asked[0]
    assert asked[1] == "/api/v1/pods"
    assert asked[2]["resourceVersion"] == "5"
    assert asked[2]["allowWatchBookmarks"] == "true"


async def test_a_watch_error_event_is_raised(server: Server, cluster: KubernetesCluster) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    server.will_stream(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
    with pytest.raises(errors.Gone, match="too old"):
        [event async for event in cluster.watch(POD, resource_version="1")]


async def test_a_cut_watch_is_unavailable(server: Server, cluster: KubernetesCluster) -> None:
    server.will_stream(b'{"type":"ADDED","object":{}}\n{"type', cut=True)
    events = cluster.watch(POD)
    assert (await anext(events)).type is EventType.ADDED
    with pytest.raises(errors.Unavailable):
        await anext(events)


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (404, "NotFound", errors.NotFound),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (403, "Forbidden", errors.Forbidden),
        (500, "ServerTimeout", errors.Unavailable),
        (503, "ServiceUnavailable", errors.Unavailable),
        (500, "InternalError", errors.ApiError),
    ],
)
async def test_statuses_become_errors(
    server: Server,
    cluster: KubernetesCluster,
    code: int,
    reason: str,
    expected: type[errors.ApiError],
) -> None:
    server.will_answer(
        {
            "kind": "Status",
            "code": code,
            "reason": reason,
            "message": "m",
            "details": {"name": "x"},
        },
        status=code,
    )
    with pytest.raises(errors.ApiError, match="m") as caught:
        await cluster.get(NAMESPACE, "x")
    assert type(caught.value) is expected
    assert caught.value.details == {"name": "x"}


async def test_retry_after_is_kept(server: Server, cluster: KubernetesCluster) -> None:
    server.will_answer("busy", status=429, headers={"Retry-After": "3"})
    with pytest.raises(errors.TooManyRequests) as caught:
        await cluster.create(POD, {"metadata": {"namespace": "ns", "name": "a"}})
    assert caught.value.details == {"retryAfterSeconds": 3}


async def test_a_socket_that_is_not_there_is_unavailable() -> None:
    async with KubernetesCluster.from_unix_socket("/nonexistent/api.sock") as cluster:
        with pytest.raises(errors.Unavailable, match=r"/nonexistent/api\.sock does not answer"):
            await cluster.get(NAMESPACE, "x")


async def test_writes_go_where_they_belong(server: Server, cluster: KubernetesCluster) -> None:
    for _ in range(7):
        server.will_answer({})
    pod = {"metadata": {"name": "a", "namespace": "ns"}, "status": {"phase": "Running"}}
    versioned = {**pod, "metadata": {**pod["metadata"], "resourceVersion": "1"}}
    await cluster.apply(POD, pod, field_manager="me")
    await cluster.replace_status(POD, pod)
    await cluster.replace_status(POD, versioned)
    await cluster.scale(DEPLOYMENT, "d", "ns", 3, field_manager="me")
    await cluster.delete(POD, "a", "ns", uid="u", grace_seconds=0, propagation="Orphan")
    await cluster.patch(POD, "a", {"x": 1}, namespace="ns", type=PatchType.STRATEGIC)
    await cluster.replace(POD, versioned)
    one = "/api/v1/namespaces/ns/pods/a"
    apply, blind, status, scale, delete, patch, replace = server.asked
    assert apply[:3] == ("PATCH", one, {"fieldManager": "me", "force": "true"})
    assert apply[4] == "application/apply-patch+yaml"
    assert json.loads(apply[3])["kind"] == "Pod"
    assert blind[:2] == ("PATCH", f"{one}/status")
    assert json.loads(blind[3]) == [{"op": "add", "path": "/status", "value": {"phase": "Running"}}]
    assert status[:2] == ("PUT", f"{one}/status")
    assert scale[1:4] == (
        "/apis/apps/v1/namespaces/ns/deployments/d/scale",
        {"fieldManager": "me"},
        b'{"spec":{"replicas":3}}',
    )
    assert json.loads(delete[3]) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Orphan",
        "preconditions": {"uid": "u"},
        "gracePeriodSeconds": 0,
    }
    assert patch[4] == "application/strategic-merge-patch+json"
    assert replace[:2] == ("PUT", one)


async def test_logs_come_in_whole_lines(server: Server, cluster: KubernetesCluster) -> None:
    server.will_stream(b"one\ntw", b"o\nthree")
    pieces = [piece async for piece in cluster.logs("a", "ns", container="c", tail=5)]
    assert b"".join(pieces) == b"one\ntwo\nthree"
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert server.asked[0][2] == {
        "follow": "false",
        "previous": "false",
        "container": "c",
        "tailLines": "5",
    }
