"""The control client against canned answers: requests as sent, errors as told."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from tests.unit.client.conftest import FakeApi

from kedge.api.scheme import INFERENCE_SERVICE, NODE, POD
from kedge.client.control import ControlClient
from kedge.client.errors import (
    ManifestError,
    ServiceFailed,
    TimedOut,
    Unreachable,
    causes_of,
    warnings_of,
)
from kedge.client.kubeconfig import Access
from kedge.client.waiting import Outlook, Progress
from kedge.cluster.errors import Gone, Invalid, NotFound, Unauthorized

PATH = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"


def service(status: str = "", *, generation: int = 1, observed: int = 1, **model: str) -> Any:
    conditions = [{"type": "Ready", "status": status, "reason": "Why", "message": "because"}]
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "iris",
            "namespace": "default",
            "generation": generation,
            "uid": "u",
            "resourceVersion": "5",
        },
        "status": {
            "observedGeneration": observed,
            "conditions": conditions if status else [],
            "modelStatus": model,
        },
    }


def event(type: str, obj: Any) -> bytes:
    return json.dumps({"type": type, "object": obj}).encode() + b"\n"


def listing(*items: Any) -> Any:
    return {"items": list(items), "metadata": {"resourceVersion": "7"}}


async def test_paths_namespaces_and_the_token(api: FakeApi) -> None:
    api.on("GET", f"{PATH}/iris", service())
    api.on("GET", "/api/v1/nodes/local", {"metadata": {"name": "local"}})
    api.on("GET", "/api/v1/namespaces/other/pods", listing({"metadata": {"name": "p"}}))
    async with ControlClient(api.access) as client:
        assert (await client.get(INFERENCE_SERVICE, "iris"))["kind"] == "InferenceService"
        assert (await client.get(NODE, "local"))["metadata"]["name"] == "local"
        found = await client.list(POD, "other", labels="a=b")
    assert (found.items[0]["kind"], found.resource_version) == ("Pod", "7")
    assert api.requests[-1][2] == {"labelSelector": "a=b"}


async def test_apply_is_server_side(api: FakeApi) -> None:
    api.on("PATCH", f"{PATH}/iris", service())
    async with ControlClient(api.access) as client:
        kind, _ = await client.apply(service())
    assert kind is INFERENCE_SERVICE
    method, _, query, body = api.requests[-1]
    assert (method, query) == ("PATCH", {"fieldManager": "kedge-client", "force": "true"})
    assert body["metadata"]["name"] == "iris"


async def test_a_kind_that_kedge_does_not_know_is_looked_up(api: FakeApi) -> None:
    resources = [{"name": "things", "kind": "Thing", "namespaced": True}]
    api.on("GET", "/apis/acme.io/v1", {"resources": resources})
    api.on("PATCH", "/apis/acme.io/v1/namespaces/default/things/a", {"metadata": {"name": "a"}})
    async with ControlClient(api.access) as client:
        thing = {"apiVersion": "acme.io/v1", "kind": "Thing", "metadata": {"name": "a"}}
        kind, _ = await client.apply(thing)
        assert str(kind) == "things.acme.io"
        with pytest.raises(ManifestError, match=r"f\.yaml:1: .* no kind `Thong` .*"):
            await client.apply({**thing, "kind": "Thong"}, where="f.yaml:1")
        with pytest.raises(ManifestError, match=r"has no `kind`"):
            await client.apply({"apiVersion": "v1"})
        with pytest.raises(ManifestError, match=r"apiVersion: serving\.kserve\.io/v1beta1"):
            await client.apply({"apiVersion": "serving.kserve.io/v1", "kind": "InferenceService"})


async def test_refusals_carry_their_causes(api: FakeApi) -> None:
    status = {
        "reason": "Invalid",
        "message": "it is invalid",
        "details": {"causes": [{"field": "spec.x", "message": "must be set"}]},
    }
    api.on("PATCH", f"{PATH}/iris", status, 422)
    async with ControlClient(api.access) as client:
        with pytest.raises(Invalid, match="it is invalid") as caught:
            await client.apply(service())
    assert causes_of(caught.value) == [("spec.x", "must be set")]


async def test_401_and_404_and_words_that_are_no_json(api: FakeApi) -> None:
    api.on("GET", f"{PATH}/secret", {"reason": "Unauthorized", "message": "no"}, 401)

    async def gone(_: web.Request) -> web.Response:
        return web.Response(status=410, text="too old")

    api.answers["GET", f"{PATH}/old"] = gone
    async with ControlClient(api.access) as client:
        with pytest.raises(Unauthorized, match="Fix: test kubeconfig holds no valid token"):
            await client.get(INFERENCE_SERVICE, "secret")
        with pytest.raises(NotFound):
            await client.get(INFERENCE_SERVICE, "none")
        with pytest.raises(Gone, match="too old"):
            await client.get(INFERENCE_SERVICE, "old")


async def test_nothing_listens(unused_tcp_port: int) -> None:
    access = Access(f"http://127.0.0.1:{unused_tcp_port}", "some kubeconfig")
    async with ControlClient(access) as client:
        with pytest.raises(Unreachable, match=r"No Kedge is running at .*Fix: .*kedge up"):
            await client.get(INFERENCE_SERVICE, "iris")


async def test_warnings_are_passed_on_once(api: FakeApi) -> None:
    api.on("GET", f"{PATH}/iris", service(), Warning='299 - "spec.x is \\"odd\\""')
    told: list[str] = []
    async with ControlClient(api.access, warn=told.append) as client:
        await client.get(INFERENCE_SERVICE, "iris")
        await client.get(INFERENCE_SERVICE, "iris")
    assert told == ['spec.x is "odd"']
    assert warnings_of('299 - "a", 299 kedge "b"') == ["a", "b"]


async def test_watch_gives_events_and_raises_gone(api: FakeApi) -> None:
    first, second = event("ADDED", service()), event("MODIFIED", service("True"))
    status = {"code": 410, "reason": "Expired", "message": "too old"}
    api.answers["WATCH", PATH] = _streaming(first[:10], first[10:] + second, event("ERROR", status))
    async with ControlClient(api.access) as client:
        events = client.watch(INFERENCE_SERVICE, resource_version="7")
        seen = [str((await anext(events)).type), str((await anext(events)).type)]
        with pytest.raises(Gone):
            await anext(events)
    assert seen == ["ADDED", "MODIFIED"]


async def test_logs_are_lines(api: FakeApi) -> None:
    api.stream("/api/v1/namespaces/default/pods/p/log", b"one\ntw", b"o\nlast")
    async with ControlClient(api.access) as client:
        lines = [line async for line in client.logs("p", container="c", tail=5)]
    assert lines == [b"one", b"two", b"last"]
    assert api.requests[-1][2] == {"container": "c", "tailLines": "5"}


async def test_changes_go_on_after_a_break(api: FakeApi) -> None:
    other = service()
    other["metadata"] |= {"name": "other", "uid": "o"}
    changed = service("True")
    changed["metadata"]["resourceVersion"] = "6"
    api.on("GET", PATH, listing(service(), other))
    api.answers["WATCH", PATH] = _streaming(b"")  # ends at once: list again
    seen: list[str] = []
    async with (
        ControlClient(api.access) as client,
        aclosing(client.changes(INFERENCE_SERVICE)) as changes,
    ):
        async for event in changes:
            name = event.object["metadata"].get("name", "")
            seen.append(f"{event.type} {name}".strip())
            if len(seen) == 3:
                api.on("GET", PATH, listing(changed))
            if len(seen) == 6:
                break
    assert seen[:3] == ["ADDED iris", "ADDED other", "BOOKMARK"]
    assert seen[3:] == ["DELETED other", "MODIFIED iris", "BOOKMARK"]


async def test_wait_until_ready_tells_progress(api: FakeApi) -> None:
    api.on("GET", PATH, listing(service(generation=2)))
    api.answers["WATCH", PATH] = _streaming(
        event("BOOKMARK", {"metadata": {}}),
        event("MODIFIED", service("False", generation=2, observed=2)),
        event("MODIFIED", service("True", generation=2, observed=2)),
    )
    told: list[Progress] = []
    async with ControlClient(api.access) as client:
        ready = await client.wait_ready("iris", progress=lambda now, _: told.append(now))
    assert ready["status"]["conditions"][0]["status"] == "True"
    assert [one.outlook for one in told] == [Outlook.COMING, Outlook.COMING, Outlook.READY]
    assert told[1].text == "Why: because"


async def test_wait_until_ready_ends(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kedge.client.control._SETTLE", 0.01)
    api.answers["WATCH", PATH] = _hanging
    async with ControlClient(api.access) as client:
        api.on("GET", PATH, listing(service("Unknown")))
        with pytest.raises(TimedOut, match=r"not Ready after 0 s .*kedge why iris"):
            await client.wait_ready("iris", timeout=0.02)
        api.on("GET", PATH, listing())
        with pytest.raises(NotFound, match='"iris" not found'):
            await client.wait_ready("iris")
        failed = service("False", transitionStatus="BlockedByFailedLoad")
        api.on("GET", PATH, listing(failed))
        with pytest.raises(ServiceFailed, match="iris failed: Why: because"):
            await client.wait_ready("iris")
        stopped = service("False")
        stopped["status"]["conditions"].append({"type": "Stopped", "status": "True"})
        api.on("GET", PATH, listing(stopped))
        with pytest.raises(ServiceFailed, match="stopped by the annotation"):
            await client.wait_ready("iris")


def _streaming(*pieces: bytes) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return answer


async def _hanging(request: web.Request) -> web.StreamResponse:
    """A watch on which nothing ever happens."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"\n")
    await asyncio.Event().wait()
    return response
