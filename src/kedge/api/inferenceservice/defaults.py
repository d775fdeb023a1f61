"""What an InferenceService means where it does not say: the defaults, computed, never written back.

`apply_defaults` is the one entry: controllers build from its result, admission checks by it.
"""

from __future__ import annotations

import copy
from typing import Any

from kedge.api.quantity import parse_quantity
from kedge.settings.serving import DeploymentMode, ResourceDefaults, ServingConfig

Object = dict[str, Any]

SERVER_CONTAINER = "kserve-container"
DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
MODEL_FORMAT = "modelFormat"

FRAMEWORKS = (
    "sklearn", "tensorflow", "xgboost", "pytorch", "triton", "onnx", "huggingface", "pmml",
    "lightgbm", "paddle",
)  # fmt: skip
"""The older framework keys of a predictor, in the order in which the first one counts."""

_V2_FRAMEWORKS = frozenset({"triton", "onnx", "huggingface"})
_V2_FORMATS = frozenset({"triton", "vLLM"})


def apply_defaults(isvc: Object, config: ServingConfig) -> Object:
    """The object with every default filled in; the given one is left as it is."""
    full = {**isvc, "metadata": dict(isvc.get("metadata") or {})}
    if "spec" in isvc:
        full["spec"] = copy.deepcopy(isvc["spec"])
    mode = deployment_mode(isvc, config)
    annotations = _annotations(full)
    if DEPLOYMENT_MODE in annotations or mode is not DeploymentMode.KNATIVE:
        annotations[DEPLOYMENT_MODE] = mode.value
    spec = full.get("spec") or {}
    canaries = [entry.get("predictor") or {} for entry in spec.get("canary") or []]
    predictors = [spec.get("predictor") or {}, *canaries]
    for predictor in predictors:
        if mode is not DeploymentMode.MODEL_MESH:
            convert_framework(predictor)
        _default_protocol(predictor)
    model_format = ((predictors[0].get("model") or {}).get("modelFormat") or {}).get("name")
    if model_format:
        annotations.setdefault(MODEL_FORMAT, model_format)
    _default_containers(spec, predictors, config)
    if not config.security.auto_mount_service_account_token:
        for component in _components(spec, predictors):
            if component.get("automountServiceAccountToken") is None:
                component["automountServiceAccountToken"] = False
    return full


def deployment_mode(isvc: Object, config: ServingConfig) -> DeploymentMode:
    """The recorded mode, else the annotation's, else the configured one.

    What is recorded in the status stays: a service does not change its mode.
    """
    recorded = (isvc.get("status") or {}).get("deploymentMode") or ""
    annotated = ((isvc.get("metadata") or {}).get("annotations") or {}).get(DEPLOYMENT_MODE) or ""
    return DeploymentMode.parse(recorded) or DeploymentMode.parse(annotated) or config.deploy.mode


def convert_framework(predictor: Object) -> None:
    """Turn the first framework key into `model`, in place."""
    if predictor.get("model") is not None:
        return
    framework = next((key for key in FRAMEWORKS if predictor.get(key) is not None), None)
    if framework is None:
        return
    model = predictor.pop(framework)
    if not isinstance(model, dict):
        return
    model["modelFormat"] = {"name": framework}
    if framework in _V2_FRAMEWORKS and not model.get("protocolVersion"):
        model["protocolVersion"] = "v2"
    predictor["model"] = model


def _default_protocol(predictor: Object) -> None:
    model = predictor.get("model") or {}
    if (model.get("modelFormat") or {}).get("name") in _V2_FORMATS:
        model["protocolVersion"] = model.get("protocolVersion") or "v2"


def _default_containers(spec: Object, predictors: list[Object], config: ServingConfig) -> None:
    resources = config.inference_service.resource
    for predictor in predictors:
        if predictor.get("model") is None and not any(predictor.get(key) for key in FRAMEWORKS):
            name_server_container(predictor.get("containers"))
            _fill_server(predictor, resources)
    for key in ("transformer", "explainer"):
        component = spec.get(key) or {}
        if component.get("art") is not None:
            _default_art(component["art"], config)
            continue
        name_first_container(component.get("containers"))
        _fill_server(component, resources)


def name_server_container(containers: list[Object] | None) -> None:
    """The only container, or a first one without name, is the server, in place."""
    if containers and (len(containers) == 1 or not containers[0].get("name")):
        containers[0]["name"] = SERVER_CONTAINER


def name_first_container(containers: list[Object] | None) -> None:
    """The first container is the server unless another one has that name, in place."""
    if containers and not any(c.get("name") == SERVER_CONTAINER for c in containers):
        containers[0]["name"] = SERVER_CONTAINER


def _default_art(art: Object, config: ServingConfig) -> None:
    art["name"] = SERVER_CONTAINER
    art["runtimeVersion"] = art.get("runtimeVersion") or config.explainers.art.default_image_version
    fill_resources(art, config.inference_service.resource)


def _fill_server(component: Object, resources: ResourceDefaults) -> None:
    for container in component.get("containers") or []:
        if container.get("name") == SERVER_CONTAINER:
            fill_resources(container, resources)


def fill_resources(container: Object, defaults: ResourceDefaults) -> None:
    """Fill in missing requests and limits, in place.

    A filled-in value never contradicts a given one: a request stays below a given limit, a limit
    is at least a given request.
    """
    resources = container.setdefault("resources", {}) or {}
    container["resources"] = resources
    given_limits = dict(resources.get("limits") or {})
    given_requests = dict(resources.get("requests") or {})
    limits, requests = dict(given_limits), dict(given_requests)
    for name, amount in defaults.limits().items():
        limits.setdefault(name, _larger(amount, given_requests.get(name)))
    for name, amount in defaults.requests().items():
        requests.setdefault(name, _smaller(amount, given_limits.get(name)))
    if limits:
        resources["limits"] = limits
    if requests:
        resources["requests"] = requests


def _larger(default: str, given: Any) -> Any:
    return given if _compare(given, default) > 0 else default


def _smaller(default: str, given: Any) -> Any:
    return given if _compare(given, default) < 0 else default


def _compare(given: Any, default: str) -> int:
    left, right = parse_quantity(given), parse_quantity(default)
    if left is None or right is None:
        return 0
    return (left > right) - (left < right)


def _annotations(obj: Object) -> dict[str, str]:
    """The annotations of an object whose metadata are ours to change."""
    annotations: dict[str, str] = dict(obj["metadata"].get("annotations") or {})
    obj["metadata"]["annotations"] = annotations
    return annotations


def _components(spec: Object, predictors: list[Object]) -> list[Object]:
    others = (spec.get("transformer"), spec.get("explainer"))
    return [*predictors, *(component for component in others if component)]
