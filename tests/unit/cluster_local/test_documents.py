"""Discovery, OpenAPI and URLs: what clients read before they ask for anything."""

from __future__ import annotations

import pytest
from tests.unit.cluster_local.asking import Asker

from kedge.api.scheme import DEPLOYMENT, INFERENCE_SERVICE, KINDS, NAMESPACE, POD
from kedge.cluster.errors import NotAcceptable
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http import Facade
from kedge.cluster.local.http.negotiation import choose_form, wants_aggregated_discovery
from kedge.cluster.local.http.openapi import make_v2, make_v3
from kedge.cluster.local.http.openapi_v2 import MEDIA_TYPE
from kedge.cluster.local.http.target import Target, parse_target

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@pytest.fixture
def api(cluster: LocalCluster) -> Asker:
    return Asker(Facade(cluster, token="t", address="127.0.0.1:8081").app(trusted=True))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/pods", Target(POD)),
        ("/api/v1/namespaces/a/pods", Target(POD, "a")),
        ("/api/v1/namespaces/a/pods/b", Target(POD, "a", "b")),
        ("/api/v1/namespaces/a/pods/b/log", Target(POD, "a", "b", "log")),
        ("/api/v1/watch/namespaces/a/pods/b", Target(POD, "a", "b", watch=True)),
        ("/api/v1/namespaces", Target(NAMESPACE)),
        ("/api/v1/namespaces/a", Target(NAMESPACE, None, "a")),
        ("/api/v1/namespaces/a/status", Target(NAMESPACE, None, "a", "status")),
        ("/api/v1/namespaces/a/finalize", Target(NAMESPACE, None, "a", "finalize")),
        ("/apis/apps/v1/namespaces/a/deployments/b/scale", Target(DEPLOYMENT, "a", "b", "scale")),
        (
            "/apis/serving.kubeflow.org/v1beta1/namespaces/a/inferenceservices",
            Target(INFERENCE_SERVICE, "a", legacy=True),
        ),
        ("/api/v1/pods/b", None),
        ("/api/v1/namespaces/a/nodes", None),
        ("/api/v1/namespaces/a/pods/b/c/d", None),
        ("/apis/serving.kubeflow.org/v1alpha2/namespaces/a/inferenceservices", None),
        ("/apis/apps/v1", None),
        ("/", None),
    ],
)
def test_urls(path: str, target: Target | None) -> None:
    assert parse_target(path) == target


@pytest.mark.parametrize(
    ("accept", "name", "version", "yaml"),
    [
        ("", "", "v1", False),
        ("*/*", "", "v1", False),
        ("application/json", "", "v1", False),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", "Table", "v1", False),
        ("application/json;as=Table;v=v2;g=meta.k8s.io, application/json", "", "v1", False),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", "Table", "v1beta1", False),
        ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1, */*", "", "v1", False),
        ("application/yaml", "", "v1", True),
    ],
)
def test_forms(accept: str, name: str, version: str, yaml: bool) -> None:
    form = choose_form(accept)
    assert (form.name, form.version, form.yaml) == (name, version, yaml)


def test_a_form_that_we_cannot_write() -> None:
    with pytest.raises(NotAcceptable):
        choose_form("text/html")
    assert wants_aggregated_discovery(f"application/json, {AGGREGATED}") == "v2"
    assert wants_aggregated_discovery("application/json") == ""


async def test_discovery_in_its_old_form(api: Asker) -> None:
    assert (await api.get("/api")).json["versions"] == ["v1"]
    groups = (await api.get("/apis")).json["groups"]
    assert {"apps", "serving.kserve.io", "serving.kubeflow.org"} <= {one["name"] for one in groups}
    assert (await api.get("/apis/apps")).json["preferredVersion"]["groupVersion"] == "apps/v1"
    resources = (await api.get("/apis/apps/v1")).json["resources"]
    scale = next(one for one in resources if one["name"] == "deployments/scale")
    assert (scale["kind"], scale["group"], scale["version"]) == ("Scale", "autoscaling", "v1")


async def test_discovery_in_one_answer(api: Asker) -> None:
    answer = await api.get("/apis", accept=AGGREGATED)
    assert answer.header("content-type") == AGGREGATED
    groups = {one["metadata"]["name"]: one for one in answer.json["items"]}
    (version,) = groups["serving.kserve.io"]["versions"][:1]
    (isvc,) = version["resources"]
    assert (isvc["resource"], isvc["shortNames"]) == ("inferenceservices", ["isvc"])
    assert [one["subresource"] for one in isvc["subresources"]] == ["status"]
    core = (await api.get("/api", accept=AGGREGATED)).json["items"]
    assert [one["metadata"]["name"] for one in core] == [""]


def test_openapi_says_how_lists_merge() -> None:
    document = make_v3([kind for kind in KINDS if kind.group == "apps"])
    schemas = document["components"]["schemas"]
    spec = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]
    assert spec["containers"]["x-kubernetes-patch-merge-key"] == "name"
    assert spec["volumes"]["x-kubernetes-patch-strategy"] == "merge,retainKeys"
    assert spec["tolerations"].get("x-kubernetes-patch-merge-key") is None
    container = schemas["io.k8s.api.core.v1.Container"]["properties"]
    assert container["ports"]["x-kubernetes-list-map-keys"] == ["containerPort", "protocol"]
    assert container["ports"]["x-kubernetes-patch-merge-key"] == "containerPort"
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "fieldValidation" in [one["name"] for one in patch["parameters"]]
    assert patch["x-kubernetes-group-version-kind"] == {
        "group": "apps", "version": "v1", "kind": "Deployment",
    }  # fmt: skip


def test_every_reference_of_a_document_is_defined() -> None:
    for document, schemas, prefix in (
        (v3 := make_v3(KINDS), v3["components"]["schemas"], "#/components/schemas/"),
        (v2 := make_v2(KINDS), v2["definitions"], "#/definitions/"),
    ):
        waiting: list[object] = [document]
        while waiting:
            one = waiting.pop()
            if isinstance(one, dict):
                if "$ref" in one:
                    assert one["$ref"].removeprefix(prefix) in schemas
                waiting += one.values()
            elif isinstance(one, list):
                waiting += one


async def test_openapi_is_served(api: Asker) -> None:
    paths = (await api.get("/openapi/v3")).json["paths"]
    assert {"api/v1", "apis/serving.kserve.io/v1beta1"} <= paths.keys()
    url = paths["api/v1"]["serverRelativeURL"]
    assert "io.k8s.api.core.v1.Pod" in (await api.get(url)).json["components"]["schemas"]
    assert (await api.get("/openapi/v3/apis/none/v1")).status == 404
    assert (await api.get("/openapi/v2")).json["swagger"] == "2.0"
    old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    binary = await api.get("/openapi/v2", accept=old)
    assert binary.header("content-type") == MEDIA_TYPE
    assert binary.body.startswith(b"\n\x032.0")
