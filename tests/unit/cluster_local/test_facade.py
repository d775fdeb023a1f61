"""The API over HTTP: what a request gets back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from tests.unit.cluster_local.asking import Asker
from tests.unit.cluster_local.local_objects import (
    make_config_map,
    make_deployment,
    make_isvc,
    make_pod,
)

from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http import Facade
from kedge.cluster.local.http.bodies import MAX_BODY
from kedge.testing.clock import FakeClock

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
ISVCS = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"
LEGACY = "/apis/serving.kubeflow.org/v1beta1/namespaces/default/inferenceservices"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


@pytest.fixture
def facade(cluster: LocalCluster, clock: FakeClock) -> Facade:
    return Facade(cluster, token="secret", clock=clock)


@pytest.fixture
def api(facade: Facade) -> Asker:
    return Asker(facade.app(), "secret")


@pytest.mark.parametrize("token", [None, "wrong", ""])
async def test_without_the_token_there_is_nothing(facade: Facade, token: str | None) -> None:
    stranger = Asker(facade.app(), token)
    for path in ("/api/v1/pods", "/apis", "/openapi/v2", "/nothing"):
        answer = await stranger.get(path)
        assert (answer.status, answer.json["reason"]) == (401, "Unauthorized")
        assert "Fix:" in answer.json["message"]
    assert (await stranger.get("/healthz")).body == b"ok"
    assert (await stranger.get("/version")).json["major"] == "1"


async def test_a_trusted_socket_needs_no_token(facade: Facade) -> None:
    assert (await Asker(facade.app(trusted=True)).get("/api/v1/pods")).status == 200


async def test_create_read_replace_delete(api: Asker) -> None:
    made = await api.ask("POST", MAPS, make_config_map(x="1"))
    assert made.status == 201
    assert (await api.ask("POST", MAPS, make_config_map())).json["reason"] == "AlreadyExists"
    found = (await api.get(f"{MAPS}/a")).json
    assert found == made.json
    found["data"] = {"x": "2"}
    replaced = await api.ask("PUT", f"{MAPS}/a", found)
    assert (replaced.status, replaced.json["data"]) == (200, {"x": "2"})
    stale = await api.ask("PUT", f"{MAPS}/a", found)
    assert (stale.status, stale.json["reason"], stale.json["details"]["name"]) == (
        409, "Conflict", "a",
    )  # fmt: skip
    deleted = await api.ask("DELETE", f"{MAPS}/a")
    assert deleted.json["status"] == "Success"
    assert deleted.json["details"]["uid"] == found["metadata"]["uid"]
    missing = await api.get(f"{MAPS}/a")
    assert (missing.status, missing.json["reason"]) == (404, "NotFound")
    assert missing.json["details"] == {"name": "a", "group": "", "kind": "configmaps"}


async def test_the_manager_is_asked_for_or_guessed(api: Asker) -> None:
    agent = {"user-agent": "kubectl/v1.32.0 (linux/amd64)"}
    made = await api.ask("POST", MAPS, make_config_map(), **agent)
    assert made.json["metadata"]["managedFields"][0]["manager"] == "kubectl"
    named = await api.ask("POST", f"{MAPS}?fieldManager=me", make_config_map("b"), **agent)
    assert named.json["metadata"]["managedFields"][0]["manager"] == "me"


async def test_patches(api: Asker) -> None:
    await api.ask("POST", DEPLOYMENTS, make_deployment())
    web = f"{DEPLOYMENTS}/web"
    merged = await api.ask("PATCH", web, {"spec": {"replicas": 2}}, type=MERGE)
    assert merged.json["spec"]["replicas"] == 2
    unknown = await api.ask("PATCH", web, {}, type="application/json")
    assert (unknown.status, unknown.json["reason"]) == (415, "UnsupportedMediaType")
    yaml = b"apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 5}\n"
    applied = await api.ask("PATCH", f"{web}?fieldManager=me&force=true", yaml, type=APPLY)
    assert applied.json["spec"]["replicas"] == 5
    nobody = await api.ask("PATCH", web, yaml, type=APPLY)
    assert (nobody.status, "fieldManager" in nobody.json["message"]) == (400, True)


async def test_apply_creates(api: Asker) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}
    made = await api.ask("PATCH", f"{MAPS}/new?fieldManager=me", config, type=APPLY)
    assert (made.status, made.json["metadata"]["name"]) == (201, "new")


async def test_dry_run_stores_nothing(api: Asker) -> None:
    made = await api.ask("POST", f"{MAPS}?dryRun=All", make_config_map())
    assert made.status == 201
    assert (await api.get(f"{MAPS}/a")).status == 404
    assert (await api.ask("POST", f"{MAPS}?dryRun=Some", make_config_map())).status == 400


async def test_field_validation(api: Asker) -> None:
    pod = make_pod(replicass=1)
    pods = "/api/v1/namespaces/default/pods"
    warned = await api.ask("POST", f"{pods}?dryRun=All", pod)
    (warning,) = warned.warnings
    assert warning.startswith('299 - "unknown field \\"spec.replicass\\"')
    ignored = await api.ask("POST", f"{pods}?dryRun=All&fieldValidation=Ignore", pod)
    assert ignored.warnings == []
    refused = await api.ask("POST", f"{pods}?fieldValidation=Strict", pod)
    assert (refused.status, refused.json["reason"]) == (400, "BadRequest")
    assert (await api.ask("POST", f"{pods}?fieldValidation=Maybe", pod)).status == 400


async def test_sub_resources(api: Asker) -> None:
    await api.ask("POST", DEPLOYMENTS, make_deployment(replicas=3))
    scale = (await api.get(f"{DEPLOYMENTS}/web/scale")).json
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 3})
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    scale["spec"]["replicas"] = 1
    changed = await api.ask("PUT", f"{DEPLOYMENTS}/web/scale", scale)
    assert changed.json["spec"] == {"replicas": 1}
    status = {"status": {"readyReplicas": 1}}
    await api.ask("PATCH", f"{DEPLOYMENTS}/web/status", status, type=MERGE)
    assert (await api.get(f"{DEPLOYMENTS}/web/status")).json["status"] == {"readyReplicas": 1}
    assert (await api.ask("PATCH", f"{MAPS}/a/status", status, type=MERGE)).status == 405
    assert (await api.get(f"{MAPS}/a/exec")).status == 404


async def test_lists_carry_stored_bytes(api: Asker) -> None:
    await api.ask("POST", MAPS, {**make_config_map(), "future": {"x": 1.50}})
    stored = (await api.get(f"{MAPS}/a")).body
    listed = await api.get(MAPS)
    assert stored in listed.body
    found = listed.json
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert int(found["metadata"]["resourceVersion"]) >= 1
    assert [one["metadata"]["name"] for one in found["items"]] == ["a"]
    assert (await api.get("/api/v1/configmaps")).json["items"] == found["items"]
    empty = await api.get("/api/v1/namespaces/kedge/configmaps")
    assert empty.json["items"] == []


async def test_selectors(api: Asker) -> None:
    for name in ("a", "b"):
        labelled = make_config_map(name)
        labelled["metadata"]["labels"] = {"name": name}
        await api.ask("POST", MAPS, labelled)

    async def names(query: str) -> list[str]:
        listed = (await api.get(f"{MAPS}?{query}")).json
        return [one["metadata"]["name"] for one in listed["items"]]

    assert await names("labelSelector=name%3Da") == ["a"]
    assert await names("labelSelector=name%20in%20(a,b)") == ["a", "b"]
    assert await names("fieldSelector=metadata.name%3Db") == ["b"]
    assert (await api.get(f"{MAPS}?fieldSelector=data.x%3D1")).status == 400
    assert (await api.get(f"{MAPS}?labelSelector=%3D%3D")).status == 400


async def test_pages(api: Asker) -> None:
    for number in range(5):
        await api.ask("POST", MAPS, make_config_map(f"a{number}"))
    seen: list[str] = []
    token, first = "", ""
    while True:
        page = (await api.get(f"{MAPS}?limit=2&continue={token}")).json
        seen += [one["metadata"]["name"] for one in page["items"]]
        first = first or page["metadata"]["resourceVersion"]
        assert page["metadata"]["resourceVersion"] == first
        token = page["metadata"].get("continue", "")
        await api.ask("DELETE", f"{MAPS}/a0")
        if not token:
            break
    assert seen == ["a0", "a1", "a2", "a3", "a4"]
    assert (await api.get(f"{MAPS}?limit=2&continue=nonsense")).status == 400


async def test_tables(api: Asker) -> None:
    await api.ask("POST", ISVCS, make_isvc())
    table = (await api.get(ISVCS, accept=TABLE)).json
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in table["columnDefinitions"]][:3] == ["Name", "URL", "Ready"]
    (row,) = table["rows"]
    assert (row["cells"][0], row["cells"][-1]) == ("iris", "0s")
    assert row["object"]["kind"] == "PartialObjectMetadata"
    one = (await api.get(f"{ISVCS}/iris?includeObject=Object", accept=TABLE)).json
    assert one["rows"][0]["object"]["spec"]
    none = (await api.get(f"{ISVCS}?includeObject=None", accept=TABLE)).json
    assert "object" not in none["rows"][0]


async def test_metadata_only(api: Asker) -> None:
    await api.ask("POST", MAPS, make_config_map(x="1"))
    found = (await api.get(MAPS, accept=PARTIAL)).json
    assert found["kind"] == "PartialObjectMetadataList"
    assert "data" not in found["items"][0]


async def test_yaml(api: Asker) -> None:
    body = b"metadata:\n  name: y\ndata:\n  day: 2026-01-01\n"
    assert (await api.ask("POST", MAPS, body, type="application/yaml")).json["data"] == {
        "day": "2026-01-01"
    }
    assert b"day: '2026-01-01'" in (await api.get(f"{MAPS}/y", accept="application/yaml")).body
    assert b"kind: ConfigMapList" in (await api.get(MAPS, accept="application/yaml")).body


async def test_only_protobuf_is_not_acceptable(api: Asker) -> None:
    answer = await api.get(MAPS, accept="application/vnd.kubernetes.protobuf")
    assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable")
    both = "application/vnd.kubernetes.protobuf,application/json"
    assert (await api.get(MAPS, accept=both)).status == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400),
        (b"[1]", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b'{"metadata": 5}', 400),
        (b'{"metadata": {"name": "a"}, "data": {"a": 5}}', 422),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"metadata": {"name": "a"}, "x":' + b'{"x":' * 900 + b"1" + b"}" * 901, 400),
        (b" " * (MAX_BODY + 1), 413),
    ],
)
async def test_bad_bodies(api: Asker, body: bytes, code: int) -> None:
    answer = await api.ask("POST", MAPS, body)
    assert (answer.status, answer.json["kind"]) == (code, "Status")


@pytest.mark.parametrize("body", [b"a: [", b"!!python/object:os.system {}", b"&a [*a"])
async def test_bad_yaml(api: Asker, body: bytes) -> None:
    assert (await api.ask("POST", MAPS, body, type="application/yaml")).status == 400


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v2", 404),
        ("GET", "/apis/none/v1/things", 404),
        ("GET", "/etc/passwd", 404),
        ("POST", "/api/v1/configmaps", 400),
        ("GET", "/api/v1/configmaps/a", 404),
        ("PUT", MAPS, 405),
        ("POST", f"{MAPS}/a", 405),
        ("POST", "/apis/apps/v1", 404),
        ("GET", f"{MAPS}?resourceVersion=abc", 400),
        ("GET", f"{MAPS}?resourceVersion=999999", 504),
        ("GET", f"{MAPS}?limit=x", 400),
        ("GET", "/api/v1/namespaces/default/pods/none/log", 404),
        ("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x", 405),
    ],
)
async def test_what_is_refused(api: Asker, method: str, path: str, code: int) -> None:
    answer = await api.ask(method, path)
    assert (answer.status, answer.json["kind"]) == (code, "Status")


async def test_delete_collection(api: Asker) -> None:
    for name in ("a", "b", "keep"):
        labelled = make_config_map(name)
        labelled["metadata"]["labels"] = {"go": str(name != "keep").lower()}
        await api.ask("POST", MAPS, labelled)
    gone = (await api.ask("DELETE", f"{MAPS}?labelSelector=go%3Dtrue")).json
    assert [one["metadata"]["name"] for one in gone["items"]] == ["a", "b"]
    left = (await api.get(MAPS)).json["items"]
    assert [one["metadata"]["name"] for one in left] == ["keep"]


async def test_delete_options(api: Asker) -> None:
    made = (await api.ask("POST", MAPS, make_config_map())).json
    other = {"preconditions": {"uid": "other"}}
    assert (await api.ask("DELETE", f"{MAPS}/a", other)).status == 409
    for wrong in (
        {"propagationPolicy": "Sideways"},
        {"propagationPolicy": ["Orphan"]},
        {"gracePeriodSeconds": "soon"},
        {"preconditions": "uid"},
        {"dryRun": "All"},
    ):
        assert (await api.ask("DELETE", f"{MAPS}/a", wrong)).status == 400
    waits = await api.ask("DELETE", f"{MAPS}/a?propagationPolicy=Foreground")
    assert waits.json["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert waits.json["metadata"]["uid"] == made["metadata"]["uid"]


async def next_line(lines: asyncio.Queue[Any]) -> tuple[str, Any]:
    line = await asyncio.wait_for(lines.get(), 5)
    return line["type"], line["object"]


async def test_watch(api: Asker) -> None:
    await api.ask("POST", MAPS, make_config_map())
    async with api.stream(f"{MAPS}?watch=true") as lines:
        kind, obj = await next_line(lines)
        assert (kind, obj["metadata"]["name"]) == ("ADDED", "a")
        await api.ask("PATCH", f"{MAPS}/a", {"data": {"x": "1"}}, type=MERGE)
        kind, obj = await next_line(lines)
        assert (kind, obj["data"]) == ("MODIFIED", {"x": "1"})
        await api.ask("DELETE", f"{MAPS}/a")
        kind, obj = await next_line(lines)
        assert (kind, obj["data"]) == ("DELETED", {"x": "1"})


async def test_watch_resumes(api: Asker) -> None:
    version = (await api.get(MAPS)).json["metadata"]["resourceVersion"]
    await api.ask("POST", MAPS, make_config_map())
    async with api.stream(f"{MAPS}?watch=1&resourceVersion={version}") as lines:
        assert (await next_line(lines))[0] == "ADDED"
    async with api.stream(f"{MAPS}?watch=1&resourceVersion=999999") as lines:
        kind, status = await next_line(lines)
        assert (kind, status["code"]) == ("ERROR", 410)


async def test_watch_of_one_object_as_a_table(api: Asker) -> None:
    await api.ask("POST", MAPS, make_config_map())
    await api.ask("POST", MAPS, make_config_map("b"))
    one = f"{MAPS}?watch=1&fieldSelector=metadata.name%3Db"
    async with api.stream(one, accept=TABLE) as lines:
        kind, table = await next_line(lines)
        assert (kind, table["rows"][0]["cells"][0]) == ("ADDED", "b")
        assert lines.empty()


async def test_initial_events_end_with_a_bookmark(api: Asker) -> None:
    await api.ask("POST", MAPS, make_config_map())
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true"
    async with api.stream(f"{MAPS}?{query}&resourceVersionMatch=NotOlderThan") as lines:
        assert (await next_line(lines))[0] == "ADDED"
        kind, bookmark = await next_line(lines)
        assert kind == "BOOKMARK"
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_the_old_group_is_answered_in_its_own_terms(api: Asker) -> None:
    old = {**make_isvc(), "apiVersion": "serving.kubeflow.org/v1beta1"}
    made = await api.ask("POST", LEGACY, old)
    assert (made.status, made.json["apiVersion"]) == (201, "serving.kubeflow.org/v1beta1")
    today = await api.get(f"{ISVCS}/iris")
    assert today.json["apiVersion"] == "serving.kserve.io/v1beta1"
    listed = (await api.get(LEGACY)).json
    assert listed["items"][0]["apiVersion"] == "serving.kubeflow.org/v1beta1"


async def test_reviews(api: Asker) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    asked = {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods"}}}
    answer = await api.ask("POST", path, asked)
    assert (answer.status, answer.json["status"]["allowed"]) == (201, True)
    assert answer.json["spec"] == asked["spec"]
    assert (await api.get(path)).status == 405


async def test_custom_resource_definitions_can_be_read(api: Asker) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    name = "inferenceservices.serving.kserve.io"
    definition = (await api.get(f"{path}/{name}")).json
    assert definition["status"]["conditions"][1]["type"] == "Established"
    assert name in [one["metadata"]["name"] for one in (await api.get(path)).json["items"]]
    assert (await api.get(f"{path}/none")).status == 404


async def test_an_unforeseen_error_is_a_status_too(
    api: Asker, monkeypatch: pytest.MonkeyPatch, cluster: LocalCluster
) -> None:
    def explode(*_arguments: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(cluster.registry, "read", explode)
    answer = await api.get(f"{MAPS}/a")
    assert (answer.status, answer.json["message"]) == (500, "ZeroDivisionError: oh")


async def test_a_part_of_kedge_is_reached_as_a_service(
    cluster: LocalCluster, clock: FakeClock
) -> None:
    seen: list[tuple[str, str, bytes]] = []

    async def part(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["path"], scope["root_path"], scope["query_string"]))
        await PlainTextResponse("here")(scope, receive, send)

    facade = Facade(cluster, token="secret", services={("kedge", "part"): part}, clock=clock)
    api = Asker(facade.app(), "secret")
    root = "/api/v1/namespaces/kedge/services"
    for name in ("part", "part:http", "http:part:80"):
        answer = await api.get(f"{root}/{name}/proxy/a/b?c=d")
        assert (answer.status, answer.body) == (200, b"here")
        assert seen.pop() == ("/a/b", f"{root}/{name}/proxy", b"c=d")
    await api.get(f"{root}/part/proxy")
    assert seen.pop()[0] == "/"
    other = await api.get(f"{root}/other/proxy/a")
    assert other.status == 404
    assert "kedge/other has no proxy" in other.json["message"]
    assert (await Asker(facade.app()).get(f"{root}/part/proxy/a")).status == 401
