"""What of KServe's configuration and objects becomes Kedge's."""

from __future__ import annotations

import json
from typing import Any

from kedge.install.migration.configuration import carry_over, find_hosts, with_hosts
from kedge.install.migration.finding import Found, Served
from kedge.install.migration.ownership import takeover
from kedge.install.migration.planning import Foresight, Plan
from kedge.settings.serving import ServingConfig


def test_choices_are_carried_over_and_images_are_not() -> None:
    theirs = {
        "deploy": '{"defaultDeploymentMode": "RawDeployment"}',
        "storageInitializer": '{"image": "kserve/storage-initializer:v1", "cpuLimit": "4"}',
        "ingress": '{"kserveIngressGateway": "a/b", "localGateway": "c/d", "urlScheme": "https"}',
        "_example": "text",
        "inferenceService": "{broken",
        "openshiftConfig": "{}",
    }
    ours = {"storageInitializer": '{"image": "kedge/storage-initializer:2"}', "security": "{}"}
    carried = carry_over(theirs, ours)
    config = ServingConfig.from_config_map({"data": carried.data})
    assert config.deploy.default_deployment_mode == "RawDeployment"
    assert config.storage_initializer.image == "kedge/storage-initializer:2"
    assert config.storage_initializer.cpu_limit == "4"
    assert config.ingress.url_scheme == "https"
    assert carried.data["security"] == "{}"
    assert carried.kept == ["deploy", "ingress", "storageInitializer"]
    left = "\n".join(carried.left)
    for said in (
        "ingress.kserveIngressGateway: Kedge's own is used",
        "ingress.localGateway: Kedge does not use it",
        "inferenceService: ",
        "malformed JSON",
        "openshiftConfig: Kedge has no such part",
    ):
        assert said in left


def test_a_gateway_of_kserves_stays_in_front() -> None:
    theirs = {"ingress": '{"enableGatewayApi": true, "kserveIngressGateway": "kserve/outer"}'}
    carried = carry_over(theirs, {})
    config = ServingConfig.from_config_map({"data": carried.data})
    assert config.outer_gateway == "kserve/outer"
    found = Found(config={"metadata": {"name": "c", "namespace": "kserve"}})
    lines = [*Plan(found, "kedge", carried).lines()]
    assert "  Gateway kserve/outer stays in front, and leads to Kedge's" in lines


def test_a_value_of_the_wrong_type_is_left_with_its_reason() -> None:
    carried = carry_over({"deploy": '{"defaultDeploymentMode": 3}'}, {})
    assert carried.data == {}
    assert "defaultDeploymentMode" in carried.left[0]


def test_most_services_keep_their_url() -> None:
    services = [
        ("a", "ml", "https://a.ml.models.example"),
        ("b", "ml", "https://b.ml.models.example"),
        ("c", "ml", "http://c-ml.example.com"),
        ("d", "ml", "http://d.ml.svc.cluster.local"),
        ("e", "ml", ""),
    ]
    hosts = find_hosts(services)
    assert hosts is not None
    assert (hosts.domain, hosts.scheme) == ("models.example", "https")
    assert hosts.template == "{{ .Name }}.{{ .Namespace }}.{{ .IngressDomain }}"
    data = with_hosts({"ingress": '{"externalPort": 8443}'}, hosts)
    assert json.loads(data["ingress"])["externalPort"] == 8443
    assert find_hosts([("a", "ml", "")]) is None
    assert with_hosts({"a": "b"}, None) == {"a": "b"}


def entry(manager: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "fieldsV1": fields, **more}


def test_what_kserve_said_becomes_kedges_and_nothing_else_does() -> None:
    entries = [
        entry("manager", {"f:spec": {"f:selector": {"f:app": {}}}}),
        entry("kube-controller-manager", {"f:spec": {"f:replicas": {}}}, subresource="scale"),
        entry("manager", {"f:status": {}}, subresource="status"),
        entry("ada", {"f:metadata": {"f:labels": {"f:a": {}}}}),
        {**entry("kedge", {"f:spec": {"f:type": {}}}), "operation": "Apply"},
    ]
    metadata = {
        "name": "a", "resourceVersion": "7", "managedFields": entries,
        "ownerReferences": [{"uid": "1", "controller": True}, {"uid": "2"}],
    }  # fmt: skip
    patch = takeover({"metadata": metadata}, {"uid": "3", "controller": True})["metadata"]
    assert patch["resourceVersion"] == "7"
    assert patch["ownerReferences"] == [{"uid": "2"}, {"uid": "3", "controller": True}]
    *others, ours = patch["managedFields"]
    assert [one["manager"] for one in others] == ["kube-controller-manager", "manager", "ada"]
    assert (ours["manager"], ours["operation"]) == ("kedge", "Apply")
    assert ours["fieldsV1"] == {"f:spec": {"f:selector": {"f:app": {}}, "f:type": {}}}
    assert "ownerReferences" not in takeover({"metadata": metadata})["metadata"]


def test_what_kserve_did_not_write_stays_as_it_is() -> None:
    entries = [entry("ada", {"f:spec": {}})]
    metadata = {"resourceVersion": "1", "managedFields": entries}
    assert takeover({"metadata": metadata})["metadata"]["managedFields"] == entries


def test_a_service_that_is_refused_says_why() -> None:
    isvc = {"apiVersion": "serving.kserve.io/v1beta1", "metadata": {"name": "a", "namespace": "b"}}
    plan = Plan(Found(), "kedge", carry_over({}, {}), [(Served(isvc), Foresight(errors=("no",)))])
    text = "\n".join(plan.lines())
    assert "b/a (, Ready Unknown)" in text
    assert "stays as KServe left it, for Kedge cannot serve it:\n    no" in text
    assert "0 services will be taken over, 1 stay as they are" in text
    assert "KServe's controller: not found" in text
