"""A cluster as KServe, Knative and Istio leave it, without their controllers: kinds and objects."""

from __future__ import annotations

import json
from typing import Any

from tests.kubernetes.world import World

from kedge.api.scheme import INFERENCE_SERVICE, Kind
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.install.migration.kinds import LEGACY_SERVICE

Object = dict[str, Any]
HOME = "kserve"
MANAGER = "manager"
"""How KServe's controller calls itself."""

_CONFIG = {
    "deploy": {"defaultDeploymentMode": "Serverless"},
    "ingress": {
        "enableGatewayApi": False,
        "kserveIngressGateway": "kserve/kserve-ingress-gateway",
        "ingressGateway": "knative-serving/knative-ingress-gateway",
        "ingressDomain": "example.com",
        "ingressClassName": "istio",
        "urlScheme": "http",
    },
    "storageInitializer": {
        "image": "kserve/storage-initializer:v0.15.0",
        "memoryLimit": "3Gi",
        "enableModelcar": True,
    },
    "openshiftConfig": {"modelcachePermissionFixImage": "x"},
}


def definition(group: str, version: str, kind: str, plural: str) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version, "served": True, "storage": True,
                    "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
                }
            ],
        },
    }  # fmt: skip


DEFINITIONS = [
    definition("serving.knative.dev", "v1", "Service", "services"),
    definition("serving.knative.dev", "v1", "Route", "routes"),
    definition("serving.knative.dev", "v1", "Configuration", "configurations"),
    definition("serving.knative.dev", "v1", "Revision", "revisions"),
    definition("networking.istio.io", "v1beta1", "VirtualService", "virtualservices"),
    definition("serving.kubeflow.org", "v1beta1", "InferenceService", "inferenceservices"),
    definition("serving.kserve.io", "v1alpha1", "TrainedModel", "trainedmodels"),
]


class Maker:
    """Makes objects as KServe's and Knative's controllers would."""

    def __init__(self, world: World, namespace: str) -> None:
        self.world = world
        self.namespace = namespace

    def make(
        self, api_version: str, kind: str, name: str, owner: Object | None = None,
        manager: str = MANAGER, **content: Any,
    ) -> Object:  # fmt: skip
        metadata: Object = {"name": name, "namespace": self.namespace}
        metadata |= content.pop("metadata", {})
        if owner is not None:
            metadata["ownerReferences"] = [reference(owner)]
        obj = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}
        said = self.world.api.kubectl(
            "create", f"--field-manager={manager}", "--validate=false", "-o", "json", "-f", "-",
            given=json.dumps(obj),
        )  # fmt: skip
        made, _ = json.JSONDecoder().raw_decode(said)
        return dict(made)

    def service(self, kind: Kind, name: str, spec: Object, **metadata: Any) -> Object:
        """An InferenceService that KServe has seen."""
        metadata = {"finalizers": ["inferenceservice.finalizers"], **metadata}
        return self.make(
            kind.api_version, kind.kind, name, manager="kubectl", metadata=metadata, spec=spec
        )

    def knative(self, isvc: Object, component: str, revision: int) -> None:
        """All that becomes of one component in Serverless mode."""
        serving = "serving.knative.dev/v1"
        service = self.make(serving, "Service", component, isvc, spec={})
        configuration = self.make(serving, "Configuration", component, service, "controller")
        route = self.make(serving, "Route", component, service, "controller")
        name = f"{component}-{revision:05d}"
        newest = self.make(serving, "Revision", name, configuration, "controller")
        labels = {
            "serving.knative.dev/configuration": component,
            "serving.knative.dev/revision": name,
            "serving.kserve.io/inferenceservice": isvc["metadata"]["name"],
        }
        self.make(
            "apps/v1", "Deployment", f"{name}-deployment", newest, "controller",
            metadata={"labels": labels},
            spec=workload({"serving.knative.dev/revisionUID": name}, labels, 1),
        )  # fmt: skip
        port = {"name": "http", "port": 80, "targetPort": 8012}
        self.make(
            "v1", "Service", f"{name}-private", newest, "controller", metadata={"labels": labels},
            spec={"ports": [port], "selector": {"serving.knative.dev/revisionUID": name}},
        )  # fmt: skip
        self.make(
            "v1", "Service", component, route, "controller",
            metadata={"labels": {"serving.knative.dev/route": component}},
            spec=external("knative-local-gateway.istio-system.svc.cluster.local"),
        )  # fmt: skip

    def istio(self, isvc: Object, entry: str) -> None:
        """The ways in of Serverless mode."""
        name = isvc["metadata"]["name"]
        host = f"{entry}.{self.namespace}.svc.cluster.local"
        destination = {"host": "knative-local-gateway.istio-system.svc.cluster.local",
                       "port": {"number": 80}}  # fmt: skip
        rule = {
            "match": [{"authority": {"regex": f"^{name}.*"}}],
            "route": [
                {"destination": destination, "headers": {"request": {"set": {"Host": host}}}}
            ],
        }
        self.make(
            "networking.istio.io/v1beta1", "VirtualService", name, isvc,
            spec={"hosts": [f"{name}.{self.namespace}.models.example"], "http": [rule]},
        )  # fmt: skip
        self.make(
            "v1", "Service", name, isvc,
            spec=external("knative-local-gateway.istio-system.svc.cluster.local"),
        )  # fmt: skip

    def standard(self, isvc: Object, replicas: int) -> None:
        """All that becomes of a predictor in RawDeployment mode, with Gateway API and Ingress."""
        name = f"{isvc['metadata']['name']}-predictor"
        labels = {
            "app": f"isvc.{name}", "component": "predictor",
            "serving.kserve.io/inferenceservice": isvc["metadata"]["name"],
        }  # fmt: skip
        self.make(
            "apps/v1", "Deployment", name, isvc, metadata={"labels": labels},
            spec=workload({"app": f"isvc.{name}"}, labels, replicas),
        )  # fmt: skip
        port = {"name": name, "port": 80, "targetPort": 8080}
        self.make(
            "v1", "Service", name, isvc, metadata={"labels": labels},
            spec={"ports": [port], "selector": {"app": f"isvc.{name}"}, "sessionAffinity": "None"},
        )  # fmt: skip
        backend = {"name": name, "port": 80}
        for route in (isvc["metadata"]["name"], name):
            self.make(
                "gateway.networking.k8s.io/v1", "HTTPRoute", route, isvc,
                metadata={"labels": labels},
                spec={
                    "parentRefs": [{"name": "kserve-ingress-gateway", "namespace": HOME}],
                    "hostnames": [f"{route}-{self.namespace}.example.com"],
                    "rules": [{"backendRefs": [backend]}],
                },
            )  # fmt: skip
        service = {"name": name, "port": {"number": 80}}
        path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
        host = f"{isvc['metadata']['name']}-{self.namespace}.example.com"
        self.make(
            "networking.k8s.io/v1", "Ingress", isvc["metadata"]["name"], isvc,
            spec={"rules": [{"host": host, "http": {"paths": [path]}}]},
        )  # fmt: skip


def reference(owner: Object) -> Object:
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"],
        "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def workload(selector: dict[str, str], labels: dict[str, str], replicas: int) -> Object:
    container = {
        "name": "kserve-container", "image": "kserve/sklearnserver:v0.15.0",
        "args": ["--model_name=theirs"], "env": [{"name": "OF_KSERVE", "value": "1"}],
    }  # fmt: skip
    return {
        "replicas": replicas,
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {"labels": {**labels, **selector}},
            "spec": {"containers": [container]},
        },
    }


def external(host: str) -> Object:
    return {"type": "ExternalName", "externalName": host, "sessionAffinity": "None"}


def make_controller(world: World) -> None:
    """KServe's own objects, but for the webhooks."""
    world.api.kubectl("create", "namespace", HOME)
    labels = {"control-plane": "kserve-controller-manager"}
    pod = {"containers": [{"name": "manager", "image": "kserve/controller:v0.15.0"}]}
    world.apply(
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "kserve-controller-manager", "namespace": HOME, "labels": labels},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "inferenceservice-config", "namespace": HOME},
            "data": {key: json.dumps(value) for key, value in _CONFIG.items()},
        },
    )  # fmt: skip


def make_webhooks(world: World) -> None:
    """Nobody answers them: what they are about is refused as long as they are there."""
    service = {"namespace": HOME, "name": "kserve-webhook-server-service", "path": "/mutate"}
    common = {
        "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
        "clientConfig": {"service": service}, "timeoutSeconds": 1,
    }  # fmt: skip

    def rule(group: str, resource: str) -> Object:
        return {
            "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
            "resources": [resource],
        }  # fmt: skip

    labelled = {"key": "serving.kserve.io/inferenceservice", "operator": "Exists"}
    registration = "admissionregistration.k8s.io/v1"
    world.apply(
        {
            "apiVersion": registration, "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "inferenceservice.serving.kserve.io"},
            "webhooks": [
                {**common, "name": "pod-mutator.kserve.io", "rules": [rule("", "pods")],
                 "objectSelector": {"matchExpressions": [labelled]}},
                {**common, "name": "defaulter.kserve.io",
                 "rules": [rule("serving.kserve.io", "inferenceservices")]},
            ],
        },
        {
            "apiVersion": registration, "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "inferenceservice.serving.kserve.io"},
            "webhooks": [
                {**common, "name": "validator.kserve.io",
                 "rules": [rule("serving.kserve.io", "inferenceservices")]},
            ],
        },
    )  # fmt: skip


async def make_services(world: World, cluster: KubernetesCluster, namespace: str) -> None:
    """One service of each way in which KServe serves, as it left them."""
    maker = Maker(world, namespace)

    def model(**more: Any) -> Object:
        model = {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://bucket/model"}
        return {"predictor": {"model": model, **more}}

    async def told(kind: Kind, isvc: Object, **status: Any) -> None:
        conditions = [{"type": "Ready", "status": "True"}]
        metadata = {"name": isvc["metadata"]["name"], "namespace": namespace}
        await cluster.replace_status(
            kind, {"metadata": metadata, "status": {"conditions": conditions, **status}}
        )

    iris = maker.service(INFERENCE_SERVICE, "iris", model())
    maker.knative(iris, "iris-predictor", 3)
    maker.istio(iris, "iris-predictor")
    await told(
        INFERENCE_SERVICE, iris, url=f"http://iris.{namespace}.models.example",
        deploymentMode="Serverless",
        components={"predictor": {"latestCreatedRevision": "iris-predictor-00003",
                                  "latestReadyRevision": "iris-predictor-00003"}},
    )  # fmt: skip
    income = maker.service(
        INFERENCE_SERVICE, "income", model(minReplicas=3),
        annotations={"serving.kserve.io/deploymentMode": "RawDeployment"},
    )  # fmt: skip
    maker.standard(income, 3)
    await told(
        INFERENCE_SERVICE, income, url=f"http://income-{namespace}.example.com",
        deploymentMode="RawDeployment",
    )  # fmt: skip
    mesh = maker.service(
        INFERENCE_SERVICE, "mesh", model(),
        annotations={"serving.kserve.io/deploymentMode": "ModelMesh"},
    )  # fmt: skip
    maker.make("v1", "Service", "mesh-predictor", mesh, spec={"ports": [{"port": 80}]})
    await told(INFERENCE_SERVICE, mesh, deploymentMode="ModelMesh")
    old = maker.service(LEGACY_SERVICE, "old", model())
    maker.knative(old, "old-predictor-default", 1)
    maker.istio(old, "old-predictor-default")
    await told(LEGACY_SERVICE, old, url=f"http://old.{namespace}.models.example")
    extra = {"storageUri": "gs://bucket/extra", "framework": "sklearn", "memory": "1Gi"}
    maker.make(
        "serving.kserve.io/v1alpha1", "TrainedModel", "extra",
        spec={"inferenceService": "iris", "model": extra},
    )  # fmt: skip
