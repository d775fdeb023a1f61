"""Who counts a component's pods. Admission warns by it, controllers build by it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from kedge.settings.serving import DeploymentMode

AUTOSCALER_CLASS = "serving.kserve.io/autoscalerClass"
KNATIVE_CLASS = "autoscaling.knative.dev/class"
_KNATIVE_HPA = "hpa.autoscaling.knative.dev"
_BY_TRAFFIC = ("concurrency", "rps")


class Scaler(StrEnum):
    """What writes the number of pods."""

    KEDGE = "kedge"
    HPA = "hpa"
    KEDA = "keda"
    EXTERNAL = "external"
    NONE = "none"


def scaler_of(
    mode: DeploymentMode,
    spec: Mapping[str, Any],
    annotations: Mapping[str, str],
    *,
    fewest: int | None = None,
) -> Scaler:
    """Who scales a component.

    In Knative mode that is Kedge's own autoscaler. In Standard mode it is what the annotation says;
    without one it is Kedge where only traffic can be meant (a metric of traffic, or none and
    `minReplicas: 0`), else a HorizontalPodAutoscaler.

    Args:
        fewest: the fewest pods asked for, where `minReplicas` does not say it.
    """
    if mode is not DeploymentMode.STANDARD:
        hpa = annotations.get(KNATIVE_CLASS) == _KNATIVE_HPA
        return Scaler.HPA if hpa else Scaler.KEDGE
    given = annotations.get(AUTOSCALER_CLASS)
    if given in list(Scaler) and given != Scaler.KEDGE:
        return Scaler(given)
    metric = spec.get("scaleMetric")
    if metric in _BY_TRAFFIC:
        return Scaler.KEDGE
    least = spec.get("minReplicas") if fewest is None else fewest
    silent = not metric and not spec.get("scaleTarget") and not spec.get("autoScaling")
    return Scaler.KEDGE if least == 0 and silent else Scaler.HPA
