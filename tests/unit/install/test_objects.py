"""What holds for every installed object: sizes, the restricted profile, probes, rights."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kedge.install.kinds import INSTALLED, kind_of
from kedge.install.kustomize import OVERLAYS
from kedge.install.render import render as install_render
from kedge.install.render import to_yaml
from kedge.install.values import Gateway, Values, ValuesError, parse_values
from kedge.install.verifying import make_probe

Object = dict[str, Any]
ALL = [
    pytest.param(values, id=name)
    for name, values in {**OVERLAYS, "tls": Values(gateway=Gateway(tls_secret="tls"))}.items()
]
LIMIT = 200_000
"""An object's size where it can still be applied client-side (its text goes into an annotation)."""


_rendered: dict[int, list[Object]] = {}


def render(values: Values) -> list[Object]:
    """The objects of one of the choices above; made once, since definitions are long."""
    if id(values) not in _rendered:
        _rendered[id(values)] = install_render(values)
    return _rendered[id(values)]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [obj for obj in objects if obj["kind"] == kind]


def pods(values: Values) -> list[Object]:
    deployments = of_kind(render(values), "Deployment")
    return [deployment["spec"]["template"]["spec"] for deployment in deployments]


@pytest.mark.parametrize("values", ALL)
def test_every_object_can_be_applied_client_side(values: Values) -> None:
    for obj in render(values):
        assert len(json.dumps(obj)) < LIMIT, obj["metadata"]["name"]
        assert len(to_yaml([obj])) < LIMIT, obj["metadata"]["name"]


@pytest.mark.parametrize("values", ALL)
def test_objects_come_in_an_order_in_which_they_can_be_applied(values: Values) -> None:
    seen: set[str] = set()
    for obj in render(values):
        kind = kind_of(obj)
        if kind.group in ("serving.kserve.io", "gateway.networking.k8s.io"):
            assert "CustomResourceDefinition" in seen
        if obj["kind"].endswith("Binding"):
            assert obj["roleRef"]["kind"] in seen
        if obj["metadata"].get("namespace") == values.namespace:
            assert "Namespace" in seen
        seen.add(obj["kind"])
    assert seen <= {kind.kind for kind in INSTALLED}


@pytest.mark.parametrize("values", ALL)
def test_every_pod_keeps_to_the_restricted_profile(values: Values) -> None:
    for pod in pods(values):
        assert violations(pod) == []


def test_the_probe_service_keeps_to_the_restricted_profile() -> None:
    assert violations(make_probe(Values())["spec"]["predictor"]) == []


def test_the_runtimes_ask_for_nothing_that_the_restricted_profile_refuses() -> None:
    for runtime in of_kind(install_render(Values()), "ClusterServingRuntime"):
        for container in runtime["spec"]["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["runAsNonRoot"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


def violations(pod: Object) -> list[str]:
    """What Kubernetes' Pod Security Standards, profile "restricted", say against a pod."""
    found = []
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(flag):
            found.append(flag)
    allowed = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral",
               "persistentVolumeClaim", "projected", "secret"}  # fmt: skip
    for volume in pod.get("volumes", []):
        if not set(volume) <= allowed:
            found.append(f"volume {volume['name']}")
    outer = pod.get("securityContext", {})
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        context = container.get("securityContext", {})
        name = container["name"]
        if context.get("privileged") or context.get("procMount", "Default") != "Default":
            found.append(f"{name}: privileged")
        if context.get("allowPrivilegeEscalation") is not False:
            found.append(f"{name}: allowPrivilegeEscalation")
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {
            "NET_BIND_SERVICE"
        }:
            found.append(f"{name}: capabilities")
        if context.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
            found.append(f"{name}: runAsNonRoot")
        if context.get("runAsUser", outer.get("runAsUser")) == 0:
            found.append(f"{name}: runAsUser")
        seccomp = context.get("seccompProfile", outer.get("seccompProfile", {}))
        if seccomp.get("type") not in ("RuntimeDefault", "Localhost"):
            found.append(f"{name}: seccompProfile")
        if any("hostPort" in port for port in container.get("ports", [])):
            found.append(f"{name}: hostPort")
    return found


@pytest.mark.parametrize("values", ALL)
def test_every_container_has_requests_limits_and_probes(values: Values) -> None:
    for pod in pods(values):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            for side in ("requests", "limits"):
                assert set(container["resources"][side]) == {"cpu", "memory"}
        for container in pod["containers"]:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[kind], f"{container['name']} has no {kind}"


@pytest.mark.parametrize("values", ALL)
def test_every_deployment_has_a_disruption_budget_for_its_pods(values: Values) -> None:
    objects = render(values)
    budgets = [obj["spec"]["selector"] for obj in of_kind(objects, "PodDisruptionBudget")]
    for deployment in of_kind(objects, "Deployment"):
        assert deployment["spec"]["selector"] in budgets
        assert deployment["spec"]["replicas"] >= 2


@pytest.mark.parametrize("values", ALL)
def test_services_and_policies_select_pods_that_there_are(values: Values) -> None:
    objects = render(values)
    labels = [
        deployment["spec"]["template"]["metadata"]["labels"].items()
        for deployment in of_kind(objects, "Deployment")
    ]
    chosen = [obj["spec"]["selector"] for obj in of_kind(objects, "Service")]
    chosen += [
        obj["spec"]["podSelector"]["matchLabels"] for obj in of_kind(objects, "NetworkPolicy")
    ]
    for selector in chosen:
        assert sum(selector.items() <= own for own in labels) == 1, selector


@pytest.mark.parametrize("values", ALL)
def test_every_service_port_is_one_of_its_pods(values: Values) -> None:
    objects = render(values)
    for service in of_kind(objects, "Service"):
        (pod,) = (
            deployment["spec"]["template"]["spec"]
            for deployment in of_kind(objects, "Deployment")
            if deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
        )
        open_ports = {
            port["containerPort"] for one in pod["containers"] for port in one.get("ports", [])
        }
        for port in service["spec"]["ports"]:
            assert port.get("targetPort", port["port"]) in open_ports


@pytest.mark.parametrize("values", ALL)
def test_every_account_has_rights_and_every_right_an_account(values: Values) -> None:
    objects = render(values)
    accounts = {obj["metadata"]["name"] for obj in of_kind(objects, "ServiceAccount")}
    bindings = of_kind(objects, "ClusterRoleBinding") + of_kind(objects, "RoleBinding")
    assert {s["name"] for binding in bindings for s in binding["subjects"]} == accounts
    for pod in pods(values):
        assert pod["serviceAccountName"] in accounts
    roles = {
        (obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"])
        for obj in of_kind(objects, "ClusterRole") + of_kind(objects, "Role")
    }
    for binding in bindings:
        reference = binding["roleRef"]
        assert (
            reference["kind"], binding["metadata"].get("namespace"), reference["name"]
        ) in roles  # fmt: skip


def test_in_one_namespace_nothing_of_a_namespace_is_granted_cluster_wide() -> None:
    objects = install_render(Values(namespace="kedge", watch_namespace="models"))
    bound = {obj["roleRef"]["name"] for obj in of_kind(objects, "ClusterRoleBinding")}
    for role in of_kind(objects, "ClusterRole"):
        if role["metadata"]["name"] in bound:
            for rule in role["rules"]:
                assert "secrets" not in rule["resources"]
                assert "deployments" not in rule["resources"]
    served = [obj for obj in of_kind(objects, "Role") if obj["metadata"]["namespace"] == "models"]
    assert {obj["metadata"]["name"] for obj in served} == {
        "kedge-controller-served", "kedge-gateway-served",
    }  # fmt: skip


def test_the_webhook_never_sees_a_pod_and_never_blocks() -> None:
    (webhook,) = of_kind(install_render(Values()), "ValidatingWebhookConfiguration")
    for hook in webhook["webhooks"]:
        assert hook["failurePolicy"] == "Ignore"
        for rule in hook["rules"]:
            assert rule["apiGroups"] == ["serving.kserve.io"] or rule["resources"] == ["configmaps"]


def test_images_follow_prefix_and_tag() -> None:
    text = to_yaml(install_render(Values(image_prefix="registry.example/ml/", image_tag="9.9")))
    assert "registry.example/ml/sklearnserver:9.9" in text
    assert "registry.example/ml/storage-initializer:9.9" in text
    assert "image: kedge/" not in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense: 1", "nonsense"),
        ("gateway: {replicas: two}", "gateway.replicas"),
        ("gateway: {serviceType: Load}", "gateway.serviceType"),
        ("a: [", "not YAML"),
        ("[1]", "values.yaml"),
    ],
)
def test_bad_values_name_the_place(text: str, told: str) -> None:
    with pytest.raises(ValuesError, match=told.replace(".", r"\.")) as caught:
        parse_values(text, "values.yaml")
    assert caught.value.fix
