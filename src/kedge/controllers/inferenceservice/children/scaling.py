"""How a Deployment says who counts its pods, and a Service what the gateway is to do at none.

The autoscaler reads Deployments and the gateway Services; neither knows InferenceServices. All of
it is on the objects' own metadata, never on a pod template, so that it may change without a new
revision.
"""

from __future__ import annotations

from kedge.api.inferenceservice.scaler import KNATIVE_CLASS, Scaler, scaler_of
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.components import Component, ServicePlan
from kedge.controllers.inferenceservice.pod import ready_probe
from kedge.settings.serving import DeploymentMode

_KPA = "kpa.autoscaling.knative.dev"
_FIELDS = (("scaleTarget", "target"), ("scaleMetric", "metric"), ("maxReplicas", "max-scale"))
_RULED_BY_FIELDS = ("min-scale", "max-scale", "minScale", "maxScale")
"""Annotations that the fields of the component rule; a user's own have no effect."""


def scaler(plan: ServicePlan, component: Component) -> Scaler:
    """Who counts the component's pods."""
    fewest = component.fewest
    return scaler_of(plan.mode, component.spec, component.annotations, fewest=fewest)


def is_autoscaled(plan: ServicePlan, component: Component) -> bool:
    """Whether Kedge's autoscaler writes the count, were it only between none and one."""
    who = scaler(plan, component)
    return who is Scaler.KEDGE or (who is Scaler.HPA and _rests_beside_hpa(plan, component))


def _rests_beside_hpa(plan: ServicePlan, component: Component) -> bool:
    """A HorizontalPodAutoscaler never takes the last pod, so Kedge does, and gives the first."""
    return component.fewest == 0 and plan.mode is DeploymentMode.STANDARD


def is_activatable(plan: ServicePlan, component: Component) -> bool:
    """Whether the gateway holds requests while there is no pod, or hands out the pods' slots."""
    who = scaler(plan, component)
    if component.container_concurrency > 0 or who is Scaler.KEDGE:
        return True
    return component.fewest == 0 and who is not Scaler.NONE


def initial_replicas(plan: ServicePlan, component: Component) -> int:
    """The pods that a Deployment starts with: at least the one that proves it."""
    if scaler(plan, component) is Scaler.NONE:
        return component.fewest
    given = component.annotations.get(f"{names.AUTOSCALING}/initial-scale", "")
    asked = int(given) if given.isdigit() and scaler(plan, component) is Scaler.KEDGE else 1
    return max(component.fewest, asked, 1)


def deployment_labels(plan: ServicePlan, component: Component) -> dict[str, str]:
    """Labels of the Deployment itself."""
    return {names.AUTOSCALED: "true"} if is_autoscaled(plan, component) else {}


def deployment_annotations(plan: ServicePlan, component: Component, service: str) -> dict[str, str]:
    """Annotations of the Deployment itself: the component's, and how it scales.

    Args:
        service: the Service of its pods, under whose name the gateway counts requests.
    """
    given = {
        key: value
        for key, value in component.annotations.items()
        if key not in {f"{names.AUTOSCALING}/{name}" for name in _RULED_BY_FIELDS}
    }
    if not is_autoscaled(plan, component):
        return given
    given.setdefault(KNATIVE_CLASS, _KPA)
    _drop_useless_initial_scale(given)
    given |= {
        f"{names.AUTOSCALING}/min-scale": str(component.fewest),
        names.CONTAINER_CONCURRENCY: str(component.container_concurrency),
        names.SIGNALS_SERVICE: service,
    }
    for field, name in _FIELDS:
        if component.spec.get(field):
            given[f"{names.AUTOSCALING}/{name}"] = str(component.spec[field])
    if scaler(plan, component) is Scaler.HPA:
        given[names.SCALE_RANGE] = "activation"
    return given


def _drop_useless_initial_scale(annotations: dict[str, str]) -> None:
    key = f"{names.AUTOSCALING}/initial-scale"
    if not annotations.get(key, "0").isdigit() or int(annotations.get(key, "0")) == 0:
        annotations.pop(key, None)


def service_labels(plan: ServicePlan, component: Component) -> dict[str, str]:
    """Labels of the Service of the pods."""
    return {names.ACTIVATION: "true"} if is_activatable(plan, component) else {}


def service_annotations(plan: ServicePlan, component: Component) -> dict[str, str]:
    """Annotations of the Service of the pods."""
    if not is_activatable(plan, component):
        return {}
    probe = ready_probe(component.pod)
    return {
        names.CONTAINER_CONCURRENCY: str(component.container_concurrency),
        **({names.READY_PROBE: probe} if probe else {}),
    }
