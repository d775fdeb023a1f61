"""Pods of a component: a model over its runtime, or the containers that the user gave.

What is here is the same in both deployment modes and needs no storage; `storage.inject` comes
after it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from lightkube.models import core_v1

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import images, placeholders
from kedge.controllers.inferenceservice.errors import InvalidSpec
from kedge.controllers.inferenceservice.merge import (
    Tree,
    find_container,
    merge,
    merge_container,
    set_env,
)
from kedge.controllers.inferenceservice.names import (
    GKE_ACCELERATOR,
    SERVER_CONTAINER,
    TRANSFORMER_CONTAINER,
)

DEFAULT_PORT = 8080
GRPC_PORT = 8081
DEFAULT_TIMEOUT = 60
"""Seconds that a request may take where nothing is said."""
_GKE_SELECTOR = "cloud.google.com/gke-accelerator"
_PROBES = ("readinessProbe", "livenessProbe", "startupProbe")
_PROBED = (SERVER_CONTAINER, TRANSFORMER_CONTAINER)

POD_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(core_v1.PodSpec)) - {
    "ephemeralContainers"
}
CONTAINER_FIELDS = frozenset(
    field.encode_name for field in msgspec.structs.fields(core_v1.Container)
)
_RUNTIME_POD_FIELDS = (
    "nodeSelector",
    "affinity",
    "tolerations",
    "volumes",
    "imagePullSecrets",
    "schedulerName",
    "resourceClaims",
    "hostIPC",
)


def pod_fields(component: Mapping[str, Any]) -> Tree:
    """The pod spec that is inlined in a component, `containers` left out."""
    return {
        key: copy.deepcopy(value)
        for key, value in component.items()
        if key in POD_FIELDS and key != "containers" and value is not None
    }


def container_fields(model: Mapping[str, Any]) -> Tree:
    """The container that is inlined in a `model` or `art`."""
    return {
        key: copy.deepcopy(value)
        for key, value in model.items()
        if key in CONTAINER_FIELDS and value is not None
    }


def model_pod(
    predictor: Mapping[str, Any],
    model: Mapping[str, Any],
    runtime: Object,
    metadata: Mapping[str, Any],
    server_type: str,
) -> Tree:
    """The pod of a predictor with a `model`.

    Args:
        predictor: `spec.predictor`.
        model: its model, with its server's defaults.
        runtime: the selected runtime.
        metadata: what placeholders are filled from.
        server_type: the runtime's server family.
    """
    spec = runtime["spec"]
    own = list(predictor.get("containers") or ())
    given = list(spec.get("containers") or ())
    server = _server_container(model, runtime, metadata, server_type)
    containers = [server]
    transformer = _transformer_container(given, own, metadata)
    if transformer is not None:
        containers.append(transformer)
    containers += [copy.deepcopy(c) for c in (*given, *own) if c.get("name") not in _PROBED]
    level = {key: spec[key] for key in _RUNTIME_POD_FIELDS if spec.get(key)}
    return {**merge(level, pod_fields(predictor)), "containers": containers}


def _server_container(
    model: Mapping[str, Any], runtime: Object, metadata: Mapping[str, Any], server_type: str
) -> Tree:
    name = runtime["metadata"]["name"]
    base = find_container(runtime["spec"].get("containers") or (), SERVER_CONTAINER)
    if base is None:
        raise InvalidSpec(
            f"The runtime `{name}` has no container named `{SERVER_CONTAINER}`.",
            fix=f"Name the server's container in the runtime `{name}` `{SERVER_CONTAINER}`, or"
            " choose another runtime.",
        )
    overlay = {key: value for key, value in container_fields(model).items() if key != "name"}
    container: Tree = placeholders.render(
        merge_container(base, overlay), placeholders.service_data(metadata)
    )
    container["image"] = images.with_version(
        str(container.get("image") or ""),
        str(model.get("runtimeVersion") or ""),
        server_type,
        container.get("resources"),
    )
    return container


def _transformer_container(
    given: Sequence[Tree], own: Sequence[Tree], metadata: Mapping[str, Any]
) -> Tree | None:
    """A transformer in the predictor's pod, from the runtime, the service, or both."""
    base = find_container(given, TRANSFORMER_CONTAINER)
    overlay = find_container(own, TRANSFORMER_CONTAINER)
    if base is None or overlay is None:
        found = base or overlay
        return None if found is None else _render(copy.deepcopy(found), metadata)
    return _render(merge_container(base, overlay), metadata)


def _render(container: Tree, metadata: Mapping[str, Any]) -> Tree:
    rendered: Tree = placeholders.render(container, placeholders.service_data(metadata))
    return rendered


def custom_pod(component: Mapping[str, Any]) -> Tree:
    """The pod of a component made of containers; the server's comes first.

    Raises:
        InvalidSpec: there are none.
    """
    containers = copy.deepcopy(list(component.get("containers") or ()))
    if not containers:
        raise InvalidSpec(
            "It has neither a `model` nor `containers`.",
            fix=f"Give it a `model`, or a container named `{SERVER_CONTAINER}`.",
        )
    containers.sort(key=lambda container: container.get("name") != SERVER_CONTAINER)
    return {**pod_fields(component), "containers": containers}


def name_service(containers: Sequence[Tree], isvc: str) -> None:
    """Tell containers which service they are part of."""
    for container in containers:
        set_env(container, "INFERENCE_SERVICE_NAME", isvc)


def serving_container(pod: Tree) -> Tree:
    """The container that requests reach: a transformer in front, else the first."""
    containers: list[Tree] = pod["containers"]
    return find_container(containers, TRANSFORMER_CONTAINER) or containers[0]


def first_port(container: Tree) -> int:
    ports = container.get("ports") or ()
    return int(ports[0]["containerPort"]) if ports else DEFAULT_PORT


def ready_probe(pod: Tree) -> str:
    """How to ask a pod from outside whether it is ready, `http://pod:PORT/PATH` or
    `tcp://pod:PORT`; empty where the answer would not be the kubelet's.

    Two probes are more than one answer, and what a probe says in headers, over TLS or in a command
    is not for others to repeat. Containers without a probe, such as the one that brings the model,
    have nothing to say.
    """
    probed = [one for one in pod["containers"] if one.get("readinessProbe")]
    container = serving_container(pod)
    if probed != [container] or pod.get("readinessGates"):
        return ""
    probe = container.get("readinessProbe") or {}
    if probe.get("initialDelaySeconds") or probe.get("successThreshold", 1) != 1:
        return ""
    for scheme, kind in (("http", "httpGet"), ("tcp", "tcpSocket")):
        action = probe.get(kind)
        if action is None or action.get("host") or action.get("httpHeaders"):
            continue
        port = _number(container, action)
        if port and (action.get("scheme") or "HTTP").upper() == "HTTP":
            return f"{scheme}://pod:{port}" + (_path(action) if kind == "httpGet" else "")
    return ""


def _number(container: Tree, action: Tree) -> int:
    port = action.get("port")
    if isinstance(port, int):
        return port
    named = (one for one in container.get("ports") or () if one.get("name") == port)
    return next((int(one["containerPort"]) for one in named), 0)


def _path(action: Tree) -> str:
    path = str(action.get("path") or "/")
    return path if path.startswith("/") else f"/{path}"


def complete(pod: Tree, annotations: Mapping[str, str], *, probe_period: int) -> None:
    """Fill in what a pod needs to be ready only when it serves and to say why it failed.

    Args:
        pod: a pod spec that is ours to change.
        annotations: the component's.
        probe_period: seconds between readiness probes that nobody asked for.
    """
    for container in pod["containers"]:
        _complete_container(container, probe_period)
    for container in pod.get("initContainers") or ():
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    accelerator = annotations.get(GKE_ACCELERATOR)
    if accelerator and any(images.limits_gpu(c.get("resources")) for c in pod["containers"]):
        pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), _GKE_SELECTOR: accelerator}


def linger(pod: Tree, seconds: int, timeout: int | None) -> None:
    """Let a pod that is to end serve on until nobody sends it requests, and answer those it has.

    The cluster ends a pod and tells gateways of it at the same time, so without this some requests
    meet a port that is closed already.

    Args:
        pod: a pod spec that is ours to change; hooks and periods that it has are kept.
        seconds: how long it takes until every gateway has heard of it; 0 for no waiting.
        timeout: seconds that a request may take; None where nothing is said.
    """
    given = pod.get("terminationGracePeriodSeconds")
    if given is not None:
        seconds = min(seconds, int(given) - 1)  # Kubernetes refuses a sleep of the whole period.
    if seconds <= 0:
        return
    for container in pod["containers"]:
        hooks = container.get("lifecycle") or {}
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": seconds}}, **hooks}
    pod.setdefault("terminationGracePeriodSeconds", (timeout or DEFAULT_TIMEOUT) + seconds)


def _complete_container(container: Tree, probe_period: int) -> None:
    container.setdefault("imagePullPolicy", "IfNotPresent")
    container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    port = first_port(container)
    for name in _PROBES:
        for handler in ("httpGet", "tcpSocket"):
            action = (container.get(name) or {}).get(handler)
            if action is not None and not action.get("port"):
                action["port"] = port
    if container.get("name") in _PROBED and not container.get("readinessProbe"):
        container["readinessProbe"] = {
            "tcpSocket": {"port": port},
            "timeoutSeconds": 1,
            "periodSeconds": probe_period,
            "successThreshold": 1,
            "failureThreshold": 3,
        }
