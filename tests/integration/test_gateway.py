"""The gateway through a real Envoy: which request goes where, and what comes back."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.gateway_world import (
    PREDICT,
    GatewayWorld,
    eventually,
    gateway_world,
    grpc_rule,
    path_rule,
    rule,
)

from kedge.gateway.accesslog import AccessLog

HOST = "iris-default.localhost"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path) as world:
        yield world


async def serve_iris(world: GatewayWorld, **more: Any) -> Any:
    """One service `iris` with one REST backend, reached by host."""
    backend = await world.backend("a")
    await world.service("iris")
    await world.endpoints("iris", backend)
    await world.route("iris", rule("iris", **more), hostnames=(HOST,))
    await world.answering("iris")
    return backend


async def call(
    world: GatewayWorld, *, authority: str = "", metadata: tuple[tuple[str, str], ...] = ()
) -> Any:
    options = [("grpc.default_authority", authority)] if authority else []
    target = f"127.0.0.1:{world.settings.port}"
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        method: Any = channel.unary_unary(PREDICT, None, None)
        return json.loads(await method(b"x" * 10, metadata=metadata, timeout=10))


async def test_a_host_and_a_path_lead_to_a_service(world: GatewayWorld) -> None:
    await serve_iris(world)
    await world.route("iris-path", path_rule("/serving/default/iris/", "iris"))
    await world.answering("iris-path")

    status, body = await world.get("/v2/models?x=1", f"{HOST}:8080")
    assert (status, body["backend"], body["path"]) == (200, "a", "/v2/models?x=1")
    for asked, arrived in (
        ("/serving/default/iris/v2/models", "/v2/models"),
        ("/serving/default/iris/", "/"),
        ("/serving/default/iris", "/"),
        ("/serving/default/iris?a=b", "/?a=b"),
        ("/serving/default/iris/%2Fx%20y/../v2", "/%2Fx%20y/../v2"),
    ):
        status, body = await world.get(asked)
        assert status == 200
        if ".." not in asked:
            assert body["path"] == arrived


async def test_grpc_and_rest_share_the_port(world: GatewayWorld) -> None:
    rest, rpc = await world.backend("rest"), await world.grpc_backend("rpc")
    await world.service("iris", grpc=True)
    await world.endpoints("iris", rest)
    await world.endpoints("iris", rpc, port_name="grpc")
    await world.route("iris", grpc_rule("iris"), rule("iris"), hostnames=(HOST,))
    await world.route(
        "iris-path",
        grpc_rule("iris", selected_by="default/iris"),
        path_rule("/serving/default/iris/", "iris"),
    )
    await world.answering("iris")
    await world.answering("iris-path")

    assert (await call(world, authority=HOST))["backend"] == "rpc"
    by_metadata = await call(world, metadata=(("kedge-service", "default/iris"),))
    assert by_metadata["backend"] == "rpc"
    assert (await world.get("/v2", HOST))[1]["backend"] == "rest"
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await call(world, metadata=(("kedge-service", "default/other"),))
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "kedge get" in (unknown.value.details() or "")


async def test_http2_in_clear_text_reaches_an_http1_backend(world: GatewayWorld) -> None:
    await serve_iris(world)
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--http2-prior-knowledge", "-H", f"Host: {HOST}", f"{world.url}/v2",
        "-w", "\n%{http_version}", "-d", "x=1", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    body, _, version = output.decode().rpartition("\n")
    assert version == "2"
    assert json.loads(body)["path"] == "/v2"


async def test_errors_name_what_was_asked_and_the_way_out(world: GatewayWorld) -> None:
    backend = await serve_iris(world, timeouts={"request": "200ms"})
    await world.service("empty")
    await world.route("empty", rule("empty"), hostnames=("empty.default",))
    await world.route("gone", rule("absent"), hostnames=("gone.default",))
    await world.reason("empty", "NoReadyEndpoints")
    await world.reason("gone", "NoReadyEndpoints")

    status, body = await world.get("/nope", "nobody.example")
    assert status == 404
    assert "nobody.example" in body["error"]
    assert "/nope" in body["error"]
    assert "kedge get" in body["error"]
    for host, name in (("empty.default", "empty"), ("gone.default", "gone")):
        status, body = await poll(world, host, 503)
        assert body["error"] == (
            f"Service default/{name} has no ready endpoint."
            f" Fix: see what keeps it with `kedge why {name}`."
        )
    backend.delay = 5
    status, body = await world.get("/", HOST)
    assert status == 504
    assert "default/iris did not answer within the route's time limit" in body["error"]

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(world, authority=HOST)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "default/iris does not speak gRPC" in (refused.value.details() or "")


async def poll(world: GatewayWorld, host: str, status: int) -> tuple[int, Any]:
    answer: tuple[int, Any] = (0, None)

    async def holds() -> bool:
        nonlocal answer
        answer = await world.get("/", host)
        return answer[0] == status

    await eventually(holds)
    return answer


async def test_a_grpc_call_without_endpoint_or_time_says_so(world: GatewayWorld) -> None:
    await world.service("iris", grpc=True)
    await world.route("iris", grpc_rule("iris"), rule("iris"), hostnames=(HOST,))
    await poll(world, HOST, 503)
    with pytest.raises(grpc.aio.AioRpcError) as unavailable:
        await call(world, authority=HOST)
    assert unavailable.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "kedge why iris" in (unavailable.value.details() or "")


async def test_weights_share_requests(world: GatewayWorld) -> None:
    a, b = await world.backend("a"), await world.backend("b")
    for name, backend in (("old", a), ("new", b)):
        await world.service(name)
        await world.endpoints(name, backend)
    await world.route("split", rule(("old", 80), ("new", 20)), hostnames=(HOST,))
    await world.answering("split")
    load = await world.load(HOST)
    await load.more(1000)
    await load.stop()
    total = sum(load.answered.values())
    # Five standard deviations of a binomial.
    assert abs(load.answered["b"] / total - 0.2) < 5 * (0.2 * 0.8 / total) ** 0.5
    assert not load.failed


async def test_matches_rewrites_and_headers(world: GatewayWorld) -> None:
    a, b = await world.backend("a"), await world.backend("b")
    for name, backend in (("one", a), ("two", b)):
        await world.service(name)
        await world.endpoints(name, backend)
    change = {
        "set": [{"name": "X-Set", "value": "100%"}],
        "add": [{"name": "X-Add", "value": "2"}],
        "remove": ["X-Gone"],
    }
    await world.route(
        "mixed",
        rule("two", matches=[{"path": {"type": "Exact", "value": "/exact"}}]),
        rule("two", matches=[{"path": {"type": "RegularExpression", "value": "^/v1/.*:explain$"}}]),
        rule("two", matches=[{"method": "DELETE"}]),
        rule("two", matches=[{"headers": [{"name": "x-to", "value": "two"}]}]),
        rule("two", matches=[{"queryParams": [{"name": "to", "value": "two"}]}]),
        rule(
            "one",
            filters=[{"type": "RequestHeaderModifier", "requestHeaderModifier": change}],
        ),
        hostnames=("*.example.com",),
    )
    await world.answering("mixed")
    host = "any.example.com"
    for path, headers, expected in (
        ("/exact", {}, "b"),
        ("/exact/no", {}, "a"),
        ("/v1/models/m:explain", {}, "b"),
        ("/v1/models/m:predict", {}, "a"),
        ("/x", {"x-to": "two"}, "b"),
        ("/x?to=two", {}, "b"),
    ):
        _, body = await world.get(path, host, headers)
        assert body["backend"] == expected, path
    async with world.session.delete(world.url + "/x", headers={"Host": host}) as response:
        assert (await response.json())["backend"] == "b"
    _, body = await world.get("/x", host, {"X-Gone": "1", "X-Set": "0", "X-Add": "1"})
    assert body["headers"]["x-set"] == "100%"
    assert body["headers"]["x-add"] == "1,2"
    assert "x-gone" not in body["headers"]


async def test_a_mirror_sees_each_request(world: GatewayWorld) -> None:
    a, b = await world.backend("a"), await world.backend("b")
    for name, backend in (("one", a), ("two", b)):
        await world.service(name)
        await world.endpoints(name, backend)
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "two", "port": 80}}}
    await world.route("mirrored", rule("one", filters=[mirror]), hostnames=(HOST,))
    await world.answering("mirrored")
    for _ in range(5):
        assert (await world.get("/x", HOST))[1]["backend"] == "a"
    await eventually(lambda: b.requests == 5)


async def test_websockets_and_streams_pass_untouched(world: GatewayWorld) -> None:
    backend = await serve_iris(world, timeouts={"request": "500ms"})
    headers = {"Host": HOST}
    async with world.session.ws_connect(world.url + "/ws", headers=headers) as socket:
        for number in range(3):
            await socket.send_str(f"hello {number}")
            assert await socket.receive_str() == f"a: hello {number}"
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")
    async with world.session.get(world.url + "/stream", headers=headers) as response:
        for number in range(3):
            # The next piece is not sent before this one has arrived: nothing was held back.
            line = await asyncio.wait_for(response.content.readline(), 5)
            assert line == f"piece {number}\n".encode()
            backend.proceed.set()


async def test_large_bodies_pass(world: GatewayWorld) -> None:
    await serve_iris(world)
    body = io.BytesIO(b"x" * (64 << 20))
    async with world.session.post(world.url + "/x", headers={"Host": HOST}, data=body) as response:
        assert (await response.json())["bytes"] == 64 << 20


COMMANDS = {
    "x-envoy-original-dst-host": "127.0.0.1:1",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-retry-on": "5xx",
    "x-envoy-decorator-operation": "x",
    "x-envoy-internal": "true",
    "x-envoy-external-address": "10.0.0.1",
    "x-kedge-listener": "pods",
    "x-kedge-pod": "127.0.0.1:1",
}


async def test_commands_to_envoy_from_clients_reach_nothing(world: GatewayWorld) -> None:
    backend = await serve_iris(world)
    await world.route("iris-path", path_rule("/serving/default/iris/", "iris"))
    await world.answering("iris-path")
    backend.delay = 0.02
    for path, host in (("/v2", HOST), ("/serving/default/iris/v2", "")):
        status, body = await world.get(path, host, COMMANDS)
        assert status == 200
        assert [name for name in body["headers"] if name.startswith(("x-envoy", "x-kedge"))] == []
    status, body = await world.get("/", "127.0.0.1:1", COMMANDS)
    assert status == 404


async def test_metrics_are_shown_and_nothing_else_of_the_admin(world: GatewayWorld) -> None:
    await serve_iris(world)
    await world.get("/v2", HOST)
    metrics = f"http://127.0.0.1:{world.settings.metrics_port}"
    async with world.session.get(f"{metrics}/metrics") as response:
        text = await response.text()
    assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="default/iris/80"} 1' in text
    for path in ("/", "/quitquitquit", "/config_dump", "/metrics/../config_dump"):
        async with world.session.get(metrics + path) as response:
            assert response.status == 404
        async with world.session.post(metrics + path) as response:
            assert response.status == 404


async def test_the_access_log_has_a_line_a_request(world: GatewayWorld) -> None:
    await serve_iris(world)
    await world.get("/v2/models/iris", HOST)
    path = world.settings.access_log
    assert path is not None
    await eventually(lambda: path.exists() and "/v2/models/iris" in path.read_text())
    assert f"host={HOST} status=200" in path.read_text()


async def test_a_large_access_log_is_turned_over(world: GatewayWorld) -> None:
    await serve_iris(world)
    path = world.settings.access_log
    assert path is not None
    await world.get("/before", HOST)
    await eventually(lambda: path.exists() and "/before" in path.read_text())
    await AccessLog(path, world.settings.admin_socket, limit_bytes=1).look()
    await world.get("/after", HOST)
    await eventually(lambda: path.exists() and "/after" in path.read_text())
    assert "/before" not in path.read_text()
    assert "/before" in path.with_name("access.log.1").read_text()


async def test_a_route_that_cannot_be_served_says_why_and_harms_no_other(
    world: GatewayWorld,
) -> None:
    await serve_iris(world)
    # Python's regular expressions have it, Envoy's have not, and our check does not know.
    bad = r"^/\N{DIGIT ONE}$"
    match = {"path": {"type": "RegularExpression", "value": bad}}
    await world.route("bad", rule("iris", matches=[match]), hostnames=("bad.example",))
    await world.route("good", rule("iris"), hostnames=("good.example",))
    await world.answering("good")
    await world.reason("bad", "NotAccepted")
    assert (await world.get("/", HOST))[0] == 200
    await world.route("bad", rule("iris"), hostnames=("bad.example",))
    await world.answering("bad")
    assert (await world.get("/", "bad.example"))[0] == 200


async def test_ready_means_answered(world: GatewayWorld) -> None:
    """At the event that turns Answering True, a request is answered; when the last endpoint goes,
    it turns False."""
    backend, other = await world.backend("a"), await world.grpc_backend("g")
    for number in range(20):
        name, host = f"model-{number}", f"model-{number}.default"
        await world.service(name, grpc=True)
        await world.endpoints(name, backend)
        await world.endpoints(name, other, port_name="grpc")
        await world.route(name, grpc_rule(name), rule(name), hostnames=(host,))
        await world.answering(name)
        assert (await world.get("/", host))[0] == 200
        assert (await call(world, authority=host))["backend"] == "g"
    await world.endpoints("model-3")
    await world.reason("model-3", "NoReadyEndpoints")
    assert "default/model-3 port 80" in (await world.condition("model-3"))["message"]


async def test_many_path_routes_are_looked_up_in_a_tree(world: GatewayWorld) -> None:
    a, b = await world.backend("a"), await world.grpc_backend("b")
    await world.service("one", grpc=True)
    await world.endpoints("one", a)
    await world.endpoints("one", b, port_name="grpc")
    names = [f"m-{number}" for number in range(40)] + ["m", "m-1-x"]
    for name in names:
        await world.route(
            f"{name}-path",
            grpc_rule("one", selected_by=f"default/{name}"),
            path_rule(f"/serving/default/{name}/", "one"),
        )
    await world.route("user", rule("one", matches=[{"path": {"value": "/user"}}]))
    for name in names:
        await world.answering(f"{name}-path")
    await world.answering("user")
    for name in ("m", "m-1", "m-1-x", "m-17"):
        assert (await world.get(f"/serving/default/{name}/v2?q=1"))[1]["path"] == "/v2?q=1"
        assert (await world.get(f"/serving/default/{name}"))[1]["path"] == "/"
        got = await call(world, metadata=(("kedge-service", f"default/{name}"),))
        assert got["backend"] == "b"
    assert (await world.get("/user/x"))[1]["path"] == "/user/x"
    for path in ("/serving/default/m-99/v2", "/serving/default/m-1-y", "/userx", "/"):
        assert (await world.get(path))[0] == 404
