"""What is told of scaling: Kedge's own, a HorizontalPodAutoscaler's, nobody's."""

from __future__ import annotations

from typing import Any

from kedge.cli.scaling import table_of, text_of
from kedge.client.scaling import of_autoscaler, of_others

SAID: dict[str, Any] = {
    "service": "iris", "component": "predictor", "namespace": "default",
    "deployment": "iris-predictor-00001", "metric": "concurrency", "target": 7.0,
    "stable": 21.04, "panic": 24.0, "stableWindowSeconds": 60, "panicWindowSeconds": 6,
    "inFlight": 20.0, "requestsPerSecond": 421.7, "held": 3.0, "panicking": False,
    "desired": 3, "wanted": 3, "replicas": 3, "ready": 2, "minScale": 0, "maxScale": 5,
    "phase": "Active", "phaseSeconds": 20, "secondsToZero": 63.0,
    "reason": "21 in flight over 1m, 7 a pod aimed at", "problems": [],
}  # fmt: skip


def test_kedges_own_decision() -> None:
    assert text_of(of_autoscaler(SAID)) == (
        "iris-predictor-00001: 2 of 3 pods ready, scaled by Kedge, by concurrency\n"
        "  load      21 in flight over 1m, 24 over 6s; 422 requests/s; 3 held now\n"
        "  target    7 in flight a pod\n"
        "  decision  3 pods: 21 in flight over 1m, 7 a pod aimed at\n"
        "  bounds    0 to 5 pods\n"
        "  at zero   1m3s after the last request"
    )


def test_at_zero_and_never() -> None:
    rest = {**SAID, "inFlight": 0.0, "held": 0.0, "maxScale": 0, "problems": ["x is no y"]}
    zero = of_autoscaler({**rest, "replicas": 0, "wanted": 0, "secondsToZero": 0.0})
    assert (zero.zero, zero.bounds) == ("now", "0 pods or more")
    assert text_of(zero).endswith("  problem   x is no y")
    assert of_autoscaler({**rest, "secondsToZero": None}).zero == "never"
    assert of_autoscaler({**rest, "secondsToZero": 20.0}).zero == "in 20s"


def deployment(**annotations: str) -> dict[str, Any]:
    metadata = {"name": "iris-predictor", "namespace": "default", "annotations": annotations}
    return {"metadata": metadata, "spec": {"replicas": 2}, "status": {"readyReplicas": 2}}


def test_a_horizontal_pod_autoscaler() -> None:
    hpa = {
        "metadata": {"name": "iris-predictor", "namespace": "default"},
        "spec": {
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {
                    "type": "Utilization", "averageUtilization": 80}}}
            ],
        },
        "status": {
            "desiredReplicas": 3,
            "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {
                    "averageUtilization": 130, "averageValue": "650m"}}}
            ],
            "conditions": [
                {"type": "ScalingActive", "status": "True", "message": "the HPA was able to"},
                {"type": "ScalingLimited", "status": "True", "message": "more than the maximum"},
            ],
        },
    }  # fmt: skip
    told = of_others(deployment(), hpa)
    assert told.scaler == "the HorizontalPodAutoscaler iris-predictor"
    assert told.load == "cpu 130 % (650m) a pod"
    assert told.target == "cpu 80 % a pod"
    assert told.decision == "3 pods: more than the maximum"
    fresh = of_others(deployment(), {**hpa, "status": {}})
    assert fresh.decision == "0 pods: it has not been looked at yet"


def test_others_are_named() -> None:
    key = "serving.kserve.io/autoscalerClass"
    assert of_others(deployment(), None).scaler == "nobody"
    assert of_others(deployment(**{key: "none"}), None).scaler == "nobody"
    assert of_others(deployment(**{key: "keda"}), None).scaler == "KEDA, by its ScaledObject"
    told = of_others(deployment(**{key: "external"}), None)
    header, rows = table_of([told, of_autoscaler(SAID)], namespaces=True, wide=False)
    assert header == [
        "NAMESPACE",
        "NAME",
        "DEPLOYMENT",
        "READY",
        "WANTED",
        "LOAD",
        "TARGET",
        "ZERO",
    ]
    assert rows[0][2:6] == ["iris-predictor", "2/2", "2", "(something outside of Kedge)"]
    assert rows[1][:5] == ["default", "iris", "iris-predictor-00001", "2/3", "3"]
