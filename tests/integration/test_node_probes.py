"""Probes and hooks against real servers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.node_world import World, container, is_ready

from kedge.cluster.base import Object

# Answers with the status that the file named by its first argument holds.
SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open(sys.argv[1]).read()) if self.path == "/ok" else 404)
        self.end_headers()
http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""

# The health service, with its messages as they are on the wire.
GRPC_SERVER = """
import grpc
from concurrent.futures import ThreadPoolExecutor
def check(request, context):
    if request != bytes([10, 6]) + b"models":
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return bytes([8, 1])
server = grpc.server(ThreadPoolExecutor(1))
methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server.add_generic_rpc_handlers(
    [grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)])
server.add_insecure_port("0.0.0.0:9000")
server.start()
server.wait_for_termination()
"""


def server(answer: Path, **probes: Object) -> Object:
    args = ["-c", SERVER, str(answer)]
    ports = [{"name": "web", "containerPort": 8080}]
    return {"name": "c", "image": "test/python", "args": args, "ports": ports, **probes}


async def test_readiness_follows_the_server(world: World, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_text("503")
    probe = {"httpGet": {"path": "/ok", "port": "web"}, "periodSeconds": 1, "failureThreshold": 1}
    await world.run_pod("one", server(answer, readinessProbe=probe))
    pod = await world.wait_for("one", lambda p: container(p)["started"])
    assert not is_ready(pod)
    answer.write_text("200")
    await world.wait_for("one", is_ready, 2)
    answer.write_text("500")
    pod = await world.wait_for("one", lambda p: not is_ready(p), 3)
    assert container(pod)["state"]["running"]
    assert "answered 500" in (await world.events("Unhealthy"))[0]
    answer.write_text("200")
    await world.wait_for("one", is_ready, 2)


async def test_liveness_restarts_the_container(world: World, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_text("200")
    probe = {"httpGet": {"path": "/ok", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    probe["initialDelaySeconds"] = 1
    await world.run_pod("one", server(answer, livenessProbe=probe))
    await world.wait_for("one", is_ready)
    answer.write_text("500")
    pod = await world.wait_for("one", lambda p: container(p)["restartCount"] == 1)
    assert "liveness probe failed" in container(pod)["lastState"]["terminated"]["message"]


async def test_a_startup_probe_that_never_succeeds(world: World) -> None:
    probe = {"exec": {"command": ["sh", "-c", "echo not yet; exit 1"]}, "periodSeconds": 1,
             "failureThreshold": 1}  # fmt: skip
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 60"], "startupProbe": probe})
    pod = await world.wait_for("one", lambda p: container(p)["restartCount"] == 1)
    message = container(pod)["lastState"]["terminated"]["message"]
    assert message == "startup probe failed for 1 s: not yet"


async def test_startup_holds_readiness_back(world: World, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "sleep 60"],
         "startupProbe": {"exec": {"command": ["test", "-e", str(flag)]}},
         "readinessProbe": {"exec": {"command": ["true"]}}},
    )  # fmt: skip
    pod = await world.wait_for("one", lambda p: container(p)["state"].get("running"))
    assert not container(pod)["started"]
    flag.touch()
    pod = await world.wait_for("one", is_ready)
    assert container(pod)["started"]


@pytest.mark.parametrize(("service", "ready"), [("models", True), ("unknown", False)])
async def test_grpc(world: World, service: str, ready: bool) -> None:
    probe = {"grpc": {"port": 9000, "service": service}, "timeoutSeconds": 5, "periodSeconds": 1}
    spec = {"name": "c", "image": "test/python", "args": ["-c", GRPC_SERVER]}
    await world.run_pod("one", {**spec, "readinessProbe": {**probe, "failureThreshold": 1}})
    if ready:
        await world.wait_for("one", is_ready)
    else:
        pod = await world.wait_for("one", lambda p: container(p)["started"])
        assert not is_ready(pod)


async def test_hooks_run_in_the_container(world: World, tmp_path: Path) -> None:
    note = tmp_path / "note"
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", f"echo $HOSTNAME started >> {note}"]}},
        "preStop": {"exec": {"command": ["sh", "-c", f"cat /mnt/x/f >> {note}"]}},
    }
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "echo in the volume > /mnt/x/f; sleep 60"],
         "lifecycle": hooks, "volumeMounts": [{"name": "v", "mountPath": "/mnt/x"}]},
        volumes=[{"name": "v", "emptyDir": {}}],
    )  # fmt: skip
    await world.wait_for("one", is_ready)
    await world.delete_pod("one")
    await world.wait_gone("one")
    assert note.read_text().splitlines() == ["one started", "in the volume"]


async def test_a_failing_post_start_hook_ends_the_run(world: World) -> None:
    hooks = {"postStart": {"exec": {"command": ["false"]}}}
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 60"], "lifecycle": hooks})
    pod = await world.wait_for("one", lambda p: container(p)["restartCount"] == 1)
    assert "postStart" in container(pod)["lastState"]["terminated"]["message"]


async def test_a_command_that_hangs_is_ended(world: World) -> None:
    probe = {"exec": {"command": ["sleep", "600"]}, "periodSeconds": 1, "failureThreshold": 1}
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 60"], "readinessProbe": probe})
    await until_async(world, "Unhealthy")
    assert "did not end within 1 s" in (await world.events("Unhealthy"))[0]


async def until_async(world: World, reason: str) -> None:
    seen: list[str] = []
    while not seen:
        seen = await world.events(reason)
        await asyncio.sleep(0.05)
