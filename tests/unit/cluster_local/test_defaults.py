"""What the API fills in, compared with what a kube-apiserver fills in."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.cluster_local.local_objects import make_deployment, make_isvc, make_pod

from kedge.api.scheme import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
)
from kedge.cluster.base import Object
from kedge.cluster.local.defaults import set_defaults
from kedge.cluster.local.registry import Registry

CONTAINER = {
    "name": "c", "image": "app:1", "imagePullPolicy": "IfNotPresent", "resources": {},
    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
}  # fmt: skip
POD_SPEC = {
    "containers": [CONTAINER], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
    "schedulerName": "default-scheduler", "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}  # fmt: skip


def test_deployment() -> None:
    deployment = make_deployment()
    set_defaults(DEPLOYMENT, deployment)
    assert deployment["spec"] == {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": POD_SPEC},
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
        },
    }


def test_recreate_gets_no_rolling_update() -> None:
    deployment = make_deployment(strategy={"type": "Recreate"}, replicas=0)
    set_defaults(DEPLOYMENT, deployment)
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 0


def test_pod() -> None:
    pod = make_pod()
    set_defaults(POD, pod)
    assert pod["spec"] == {
        **POD_SPEC, "enableServiceLinks": True, "serviceAccount": "default",
        "serviceAccountName": "default",
    }  # fmt: skip
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("host:5000/a", "Always"),
        ("host:5000/a:2", "IfNotPresent"),
        ("a@sha256:00", "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    pod = make_pod(containers=[{"name": "c", "image": image}])
    set_defaults(POD, pod)
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_probes_ports_and_environment() -> None:
    container = {
        "name": "c",
        "image": "a:1",
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}},
        "livenessProbe": {"grpc": {"port": 81}, "periodSeconds": 3},
        "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    }
    pod = make_pod(containers=[container])
    set_defaults(POD, pod)
    made = pod["spec"]["containers"][0]
    assert made["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert made["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
        "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    }  # fmt: skip
    assert made["livenessProbe"] == {
        "grpc": {"port": 81, "service": ""}, "timeoutSeconds": 1, "periodSeconds": 3,
        "successThreshold": 1, "failureThreshold": 3,
    }  # fmt: skip
    assert made["lifecycle"]["preStop"]["httpGet"]["scheme"] == "HTTP"
    assert made["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"


def test_volumes() -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "a"},
        {"name": "b", "configMap": {"name": "x"}},
        {"name": "c", "hostPath": {"path": "/x"}},
        {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ]
    pod = make_pod(volumes=volumes)
    set_defaults(POD, pod)
    assert pod["spec"]["volumes"] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "configMap": {"name": "x", "defaultMode": 420}},
        {"name": "c", "hostPath": {"path": "/x", "type": ""}},
        {
            "name": "d",
            "projected": {
                "defaultMode": 420,
                "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
            },
        },
    ]


@pytest.mark.parametrize(
    ("resources", "requests", "quality"),
    [
        ({}, None, "BestEffort"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, {"cpu": "1", "memory": "1Gi"}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
         {"cpu": "500m", "memory": "1Gi"}, "Burstable"),
        ({"requests": {"cpu": "1"}}, {"cpu": "1"}, "Burstable"),
        ({"limits": {"nvidia.com/gpu": "1"}}, {"nvidia.com/gpu": "1"}, "BestEffort"),
    ],
)  # fmt: skip
def test_requests_follow_limits(resources: Any, requests: Any, quality: str) -> None:
    pod = make_pod(containers=[{"name": "c", "image": "a:1", "resources": resources}])
    set_defaults(POD, pod)
    assert pod["spec"]["containers"][0]["resources"].get("requests") == requests
    assert pod["status"]["qosClass"] == quality


def test_service(registry: Registry) -> None:
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    made = registry.create(SERVICE, "default", service).object
    address = made["spec"]["clusterIP"]
    assert address.startswith("10.96.")
    assert made["spec"] == {
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "clusterIP": address, "clusterIPs": [address],
    }  # fmt: skip


def test_headless_and_external_services_get_no_address(registry: Registry) -> None:
    headless = {"metadata": {"name": "a"}, "spec": {"clusterIP": "None"}}
    assert registry.create(SERVICE, "default", headless).object["spec"]["clusterIP"] == "None"
    external = {"metadata": {"name": "b"}, "spec": {"type": "ExternalName", "externalName": "x.y"}}
    assert "clusterIP" not in registry.create(SERVICE, "default", external).object["spec"]


def test_a_service_keeps_its_address(registry: Registry) -> None:
    service: Object = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    made = registry.create(SERVICE, "default", service).object
    service["spec"]["ports"] = [{"port": 81}]
    changed = registry.replace(SERVICE, "default", "web", service).object
    assert changed["spec"]["clusterIP"] == made["spec"]["clusterIP"]


def test_secret_text_is_encoded() -> None:
    secret: Object = {"metadata": {"name": "s"}, "stringData": {"a": "b"}, "data": {"c": "ZA=="}}
    set_defaults(SECRET, secret)
    assert secret == {
        "metadata": {"name": "s"}, "type": "Opaque", "data": {"c": "ZA==", "a": "Yg=="},
    }  # fmt: skip


def test_namespace() -> None:
    namespace: Object = {"metadata": {"name": "n"}}
    set_defaults(NAMESPACE, namespace)
    assert namespace == {
        "metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def test_autoscaler() -> None:
    autoscaler: Object = {"spec": {"maxReplicas": 3}}
    set_defaults(HORIZONTAL_POD_AUTOSCALER, autoscaler)
    assert autoscaler["spec"]["minReplicas"] == 1
    assert autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80


def test_route() -> None:
    route: Object = {
        "spec": {
            "parentRefs": [{"name": "g"}],
            "rules": [
                {
                    "matches": [{"headers": [{"name": "x", "value": "y"}]}],
                    "backendRefs": [{"name": "s", "port": 80}],
                    "filters": [{"requestMirror": {"backendRef": {"name": "m"}}}],
                }
            ],
        }
    }
    set_defaults(HTTP_ROUTE, route)
    assert route["spec"] == {
        "parentRefs": [{"name": "g", "group": "gateway.networking.k8s.io", "kind": "Gateway"}],
        "rules": [
            {
                "matches": [
                    {
                        "headers": [{"name": "x", "value": "y", "type": "Exact"}],
                        "path": {"type": "PathPrefix", "value": "/"},
                    }
                ],
                "backendRefs": [
                    {"name": "s", "port": 80, "group": "", "kind": "Service", "weight": 1}
                ],
                "filters": [
                    {"requestMirror": {"backendRef": {"name": "m", "group": "", "kind": "Service"}}}
                ],
            }
        ],
    }


def test_inference_services_are_stored_as_they_were_sent(registry: Registry) -> None:
    sent = make_isvc()
    assert registry.create(INFERENCE_SERVICE, "default", sent).object["spec"] == sent["spec"]


@pytest.mark.parametrize(
    ("kind", "obj"),
    [(DEPLOYMENT, make_deployment()), (POD, make_pod())],
)
def test_defaults_applied_twice_change_nothing_more(kind: Any, obj: Object) -> None:
    set_defaults(kind, obj)
    once = repr(obj)
    set_defaults(kind, obj)
    assert repr(obj) == once
