"""Deployments: of a component in Standard mode, of a revision in Knative mode, of workers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from kedge.api.scheme import DEPLOYMENT
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.children import scaling
from kedge.controllers.inferenceservice.children.meta import digest, make_object
from kedge.controllers.inferenceservice.components import Component, ServicePlan
from kedge.controllers.inferenceservice.merge import Tree, set_env
from kedge.controllers.inferenceservice.metadata import without
from kedge.controllers.inferenceservice.pins import Pins, write_pins
from kedge.controllers.inferenceservice.pod import first_port, serving_container
from kedge.settings.serving import DeploymentMode

PROGRESS_DEADLINE = 600
_HISTORY = 10


def make_deployment(plan: ServicePlan, component: Component) -> Object:
    """The Deployment of a component in Standard mode, without replicas."""
    app = names.app_label(component.name)
    labels = {**component.labels, names.APP_LABEL: app}
    if component.worker is not None:
        labels[names.GENERATION_LABEL] = str(plan.isvc["metadata"].get("generation") or 1)
    template = make_template(component.pod, labels, component.annotations)
    private = names.private_service(component.name)
    deployment = _make(
        plan,
        component.name,
        {**labels, **scaling.deployment_labels(plan, component)},
        scaling.deployment_annotations(plan, component, private),
        template,
    )
    strategy = component.spec.get("deploymentStrategy")
    deployment["spec"] = {
        "selector": {"matchLabels": {names.APP_LABEL: app}},
        "template": template,
        **(_given_strategy(strategy) if strategy else _default_strategy(plan)),
    }
    return deployment


def make_worker_deployment(plan: ServicePlan, component: Component) -> Object:
    """The Deployment of a multi-node predictor's workers."""
    assert component.worker is not None
    name = names.worker(component.name)
    app = names.app_label(name)
    labels = {
        **component.labels,
        names.APP_LABEL: app,
        names.GENERATION_LABEL: str(plan.isvc["metadata"].get("generation") or 1),
    }
    template = make_template(component.worker.pod, labels, component.annotations)
    deployment = _make(plan, name, labels, component.annotations, template)
    strategy = dict(component.spec.get("deploymentStrategy") or {"type": "RollingUpdate"})
    if strategy.get("type", "RollingUpdate") == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxUnavailable": "0%", "maxSurge": "100%"}
    deployment["spec"] = {
        "selector": {"matchLabels": {names.APP_LABEL: app}},
        "template": template,
        "strategy": strategy,
        "revisionHistoryLimit": _HISTORY,
        "progressDeadlineSeconds": PROGRESS_DEADLINE,
    }
    return deployment


def make_revision(
    plan: ServicePlan, component: Component, number: int, pins: Pins | None = None
) -> Object:
    """The Deployment of one revision in Knative mode, without replicas. Its template never changes.

    What only scales a revision is on the Deployment, not on its pods: it may change without a new
    revision.

    Args:
        pins: the model files that its pods get.
    """
    revision = names.revision(component.name, number)
    disallowed = plan.config.inference_service.disallowed_labels
    identity = {
        names.CONFIGURATION_LABEL: component.name,
        names.CONFIGURATION_GENERATION_LABEL: str(number),
        names.KNATIVE_SERVICE_LABEL: component.name,
        names.REVISION_LABEL: revision,
    }
    labels = {**without(component.labels, disallowed), **identity}
    pod = _with_revision_env(component.pod, component.name, revision)
    template = make_template(pod, labels, component.annotations)
    template["metadata"]["annotations"][names.TEMPLATE_HASH] = revision_digest(plan, component)
    if pins:
        template["metadata"]["annotations"][names.MODEL_PINS] = write_pins(pins)
    private = names.private_service(revision)
    deployment = _make(
        plan,
        revision,
        {**labels, **scaling.deployment_labels(plan, component)},
        scaling.deployment_annotations(plan, component, private),
        template,
    )
    deployment["spec"] = {
        "selector": {"matchLabels": {names.REVISION_LABEL: revision}},
        "template": template,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
        },
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": PROGRESS_DEADLINE,
    }
    return deployment


def revision_digest(plan: ServicePlan, component: Component) -> str:
    """What a revision is made of; another digest means another revision."""
    disallowed = plan.config.inference_service.disallowed_labels
    labels = without(component.labels, disallowed)
    return digest(
        {
            "labels": labels,
            "annotations": _template_annotations(component.annotations),
            "spec": component.pod,
            "containerConcurrency": component.spec.get("containerConcurrency"),
        }
    )


def make_template(pod: Tree, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Tree:
    """A pod template that carries its own digest, so that its pods can be told from others."""
    kept = _template_annotations(annotations)
    stamp = digest({"labels": dict(labels), "annotations": kept, "spec": pod})
    return {
        "metadata": {
            "labels": dict(sorted(labels.items())),
            "annotations": {**kept, names.TEMPLATE_HASH: stamp},
        },
        "spec": pod,
    }


def template_hash(obj: Object) -> str:
    """The digest of a Deployment's template, or of the template that a pod was made from."""
    metadata = obj["spec"]["template"]["metadata"] if "template" in obj["spec"] else obj["metadata"]
    return str((metadata.get("annotations") or {}).get(names.TEMPLATE_HASH, ""))


def _make(
    plan: ServicePlan,
    name: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    template: Tree,
) -> Object:
    stamp = template["metadata"]["annotations"][names.TEMPLATE_HASH]
    return make_object(
        DEPLOYMENT,
        plan.isvc,
        name,
        labels=labels,
        annotations={**annotations, names.TEMPLATE_HASH: stamp},
    )


def _template_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in sorted(annotations.items())
        if not names.steers_control_plane(key)
    }


def _given_strategy(strategy: Mapping[str, Any]) -> dict[str, Any]:
    return {"strategy": copy.deepcopy(dict(strategy))}


def _default_strategy(plan: ServicePlan) -> dict[str, Any]:
    surge = unavailable = "25%"
    configured = plan.config.deploy.deployment_rollout_strategy.default_rollout
    if configured is not None and plan.config.deploy.mode is DeploymentMode.STANDARD:
        surge, unavailable = configured.max_surge, configured.max_unavailable
    return {
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
                "maxSurge": _count(surge),
                "maxUnavailable": _count(unavailable),
            },
        },
        "revisionHistoryLimit": _HISTORY,
        "progressDeadlineSeconds": PROGRESS_DEADLINE,
    }


def _count(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _with_revision_env(pod: Tree, service: str, revision: str) -> Tree:
    """The environment that Knative promises to a revision's containers."""
    copied = {**pod, "containers": copy.deepcopy(pod["containers"])}
    serving = serving_container(copied)
    set_env(serving, "PORT", str(first_port(serving)))
    for container in copied["containers"]:
        set_env(container, "K_REVISION", revision)
        set_env(container, "K_CONFIGURATION", service)
        set_env(container, "K_SERVICE", service)
    return copied
