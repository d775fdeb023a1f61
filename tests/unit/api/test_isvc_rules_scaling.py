"""Rules 4, 7, 8, 11 to 14: nodes, storage, bounds, autoscaling, canaries; one row for each."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.isvc_cases import (
    CLASS,
    MODE,
    STANDARD,
    Object,
    causes,
    isvc,
    judge,
    model,
    with_model,
)

HPA = {**STANDARD, CLASS: "hpa"}
KEDA = {**STANDARD, CLASS: "keda"}
KNATIVE_HPA = {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}


def predictor(**fields: Any) -> Object:
    return {"model": model(), **fields}


def several(*pairs: tuple[str, str | None]) -> Object:
    uris = [{"uri": uri, **({"mountPath": path} if path else {})} for uri, path in pairs]
    return {"model": {"modelFormat": {"name": "sklearn"}}, "storageUris": uris}


def workers(annotations: dict[str, str] | None = None, **fields: Any) -> Object:
    worker = fields.pop("workerSpec", {})
    spec = {"model": model(**fields), "workerSpec": worker}
    return isvc(spec, annotations={**STANDARD, **(annotations or {})})


def metric(kind: str, **fields: Any) -> Object:
    key = {"Resource": "resource", "External": "external", "PodMetric": "podmetric"}[kind]
    return {"autoScaling": {"metrics": [{"type": kind, key: fields}]}}


def canary(*predictors: Object, percent: int = 10, stable: Object | None = None) -> Object:
    entries = [{"predictor": p, "trafficPercent": percent} for p in predictors]
    return isvc(stable or predictor(), annotations=STANDARD, canary=entries)


ROWS: list[tuple[str, Object, str]] = [
    (
        "4 two worker containers",
        workers(workerSpec={"containers": [{"name": "a"}, {"name": "b"}]}),
        'spec.predictor.workerSpec.containers: Invalid value: ["a", "b"]: a worker has one',
    ),
    (
        "4 sizes as environment",
        workers(env=[{"name": "TENSOR_PARALLEL_SIZE", "value": "2"}]),
        'spec.predictor.model.env[TENSOR_PARALLEL_SIZE]: Forbidden: "2": the controller sets it',
    ),
    (
        "4, 2.6 unknown resource of the model",
        workers(resources={"limits": {"nvidia.com/gpus": 1}}),
        'spec.predictor.model.resources.limits[nvidia.com/gpus]: Invalid value: "nvidia.com/gpus":'
        " it is not a known GPU resource. Fix: Write nvidia.com/gpu.",
    ),
    (
        "4, 2.6 unknown resource of a worker",
        workers(workerSpec={"containers": [{"resources": {"requests": {"x.example/npu": 1}}}]}),
        "spec.predictor.workerSpec.containers[0].resources.requests[x.example/npu]: Invalid value",
    ),
    (
        "2.6 malformed annotation",
        workers({"serving.kserve.io/gpu-resource-types": "[1]"}),
        "metadata.annotations[serving.kserve.io/gpu-resource-types]: Invalid value",
    ),
    (
        "4 without storage",
        workers(storageUri=None),
        "spec.predictor.model.storageUri: Required value: a model over several nodes needs one",
    ),
    (
        "4 scheme",
        workers(storageUri="s3://a"),
        'spec.predictor.model.storageUri: Invalid value: "s3://a": every node must find the same',
    ),
    (
        "4 autoscaler",
        workers({CLASS: "keda"}),
        f'metadata.annotations[{CLASS}]: Invalid value: "keda": a service over several nodes',
    ),
    (
        "4 size below 1",
        workers(workerSpec={"pipelineParallelSize": 0}),
        "spec.predictor.workerSpec.pipelineParallelSize: Invalid value: 0: it is below 1.",
    ),
    (
        "7 one URI and several",
        isvc({**several(("gs://a", None)), "model": model()}),
        'spec.predictor.storageUris: Invalid value: ["gs://a"]: spec.predictor.model.storageUri is',
    ),
    (
        "7 one URI as environment and several",
        isvc(
            {
                "containers": [{"env": [{"name": "STORAGE_URI", "value": "gs://a"}]}],
                "storageUris": [{"uri": "gs://b"}],
            }
        ),
        'spec.predictor.storageUris: Invalid value: ["gs://b"]:'
        " spec.predictor.containers[0].env[STORAGE_URI] is set too",
    ),
    (
        "7 empty URI",
        isvc(several(("", None))),
        "spec.predictor.storageUris[0].uri: Required value: it is empty.",
    ),
    (
        "7 mount over the root",
        isvc(several(("gs://a", "/"))),
        'spec.predictor.storageUris[0].mountPath: Invalid value: "/": files cannot be mounted over',
    ),
    (
        "7 relative mount",
        isvc(several(("gs://a", "models"))),
        'spec.predictor.storageUris[0].mountPath: Invalid value: "models": it is not an absolute',
    ),
    (
        "7 mount with dots",
        isvc(several(("gs://a", "/mnt/../etc"))),
        'spec.predictor.storageUris[0].mountPath: Invalid value: "/mnt/../etc": it contains ..',
    ),
    (
        "7 two volumes at one place",
        isvc(several(("pvc://a", "/m/a"), ("pvc://b", "/m/a"))),
        'spec.predictor.storageUris[1].mountPath: Invalid value: "/m/a": another volume is mounted',
    ),
    (
        "7 no common parent",
        isvc(several(("gs://a", "/a/b"), ("gs://b", "/c/d"))),
        'spec.predictor.storageUris: Invalid value: ["/a/b", "/c/d"]: the folders have no common',
    ),
    (
        "7 of a transformer",
        isvc(
            transformer={"containers": [{}], "storageUris": [{"uri": "gs://a", "mountPath": "/"}]}
        ),
        "spec.transformer.storageUris[0].mountPath: Invalid value",
    ),
    (
        "4.1 URI and storage path",
        isvc(with_model(storage={"path": "a"})),
        'spec.predictor.model.storage.path: Invalid value: "a": storageUri is set too.',
    ),
    (
        "8 confidential without URI",
        isvc(
            with_model(
                storageUri=None, confidential={"enabled": True, "resourceId": "kbs:///a/b/c"}
            )
        ),
        "spec.predictor.model.storageUri: Required value: encrypted files are decrypted while",
    ),
    (
        "8 resource id",
        isvc(with_model(storageUri="gs://a", confidential={"enabled": True, "resourceId": "a/b"})),
        'spec.predictor.model.confidential.resourceId: Invalid value: "a/b": it does not have the'
        " form kbs:///repository/type/tag.",
    ),
    (
        "11 negative concurrency",
        isvc(predictor(containerConcurrency=-1)),
        "spec.predictor.containerConcurrency: Invalid value: -1: it is negative. Fix: Use 0 or",
    ),
    ("11 negative minReplicas", isvc(predictor(minReplicas=-1)), "spec.predictor.minReplicas: Inv"),
    ("11 negative maxReplicas", isvc(predictor(maxReplicas=-1)), "spec.predictor.maxReplicas: Inv"),
    (
        "11 most below least",
        isvc(predictor(minReplicas=3, maxReplicas=2)),
        "spec.predictor.maxReplicas: Invalid value: 2: it is less than minReplicas, which is 3.",
    ),
    (
        "11 of a transformer",
        isvc(transformer={"containers": [{}], "minReplicas": 2, "maxReplicas": 1}),
        "spec.transformer.maxReplicas: Invalid value: 1",
    ),
    (
        "11 canary percentage",
        isvc(predictor(canaryTrafficPercent=101)),
        "spec.predictor.canaryTrafficPercent: Invalid value: 101: it is no percentage.",
    ),
    (
        "11 logger without mode",
        isvc(predictor(logger={"url": "http://a"})),
        'spec.predictor.logger.mode: Invalid value: "": it is not all, request or response. Fix:'
        " Use all to log requests and responses.",
    ),
    (
        "11 logger storage",
        isvc(predictor(logger={"mode": "all", "storage": {"path": "a", "key": "b"}})),
        "spec.predictor.logger.storage.parameters: Required value: an object store needs path,",
    ),
    (
        "12 HPA metric",
        isvc(predictor(scaleMetric="rps"), annotations=HPA),
        'spec.predictor.scaleMetric: Invalid value: "rps": a HorizontalPodAutoscaler scales on cpu'
        " or memory.",
    ),
    (
        "12 HPA cpu target above 100",
        isvc(predictor(scaleTarget=101), annotations=HPA),
        "spec.predictor.scaleTarget: Invalid value: 101: it is not 1 to 100 percent.",
    ),
    (
        "12 HPA cpu target below 1",
        isvc(predictor(scaleMetric="cpu", scaleTarget=0), annotations=HPA),
        "spec.predictor.scaleTarget: Invalid value: 0",
    ),
    (
        "12 HPA memory target below 1",
        isvc(predictor(scaleMetric="memory", scaleTarget=0), annotations=HPA),
        "spec.predictor.scaleTarget: Invalid value: 0: it is not 1 or more percent.",
    ),
    (
        "12 HPA external metric",
        isvc(predictor(**metric("External")), annotations=HPA),
        'spec.predictor.autoScaling.metrics[0].type: Invalid value: "External": a Horizontal',
    ),
    (
        "12 HPA metric without resource",
        isvc(predictor(**metric("Resource")), annotations=HPA),
        "spec.predictor.autoScaling.metrics[0].resource: Required value",
    ),
    (
        "12 KEDA with scaleMetric",
        isvc(predictor(scaleMetric="cpu"), annotations=KEDA),
        'spec.predictor.scaleMetric: Forbidden: "cpu": KEDA reads autoScaling.metrics.',
    ),
    (
        "12 KEDA cpu target type",
        isvc(
            predictor(**metric("Resource", name="cpu", target={"type": "AverageValue"})),
            annotations=KEDA,
        ),
        'spec.predictor.autoScaling.metrics[0].resource.target.type: Invalid value: "AverageValue":'
        " cpu is scaled by Utilization.",
    ),
    (
        "12 KEDA memory target type",
        isvc(
            predictor(**metric("Resource", name="memory", target={"type": "Value"})),
            annotations=KEDA,
        ),
        "spec.predictor.autoScaling.metrics[0].resource.target.type: Invalid value",
    ),
    (
        "12 KEDA memory below 1Mi",
        isvc(
            predictor(
                **metric(
                    "Resource",
                    name="memory",
                    target={"type": "AverageValue", "averageValue": "1000Ki"},
                )
            ),
            annotations=KEDA,
        ),
        'spec.predictor.autoScaling.metrics[0].resource.target.averageValue: Invalid value: "1000K',
    ),
    (
        "12 KEDA target without its field",
        isvc(
            predictor(**metric("Resource", name="cpu", target={"type": "Utilization"})),
            annotations=KEDA,
        ),
        "spec.predictor.autoScaling.metrics[0].resource.target.averageUtilization: Required value",
    ),
    (
        "12 KEDA utilisation",
        isvc(
            predictor(
                **metric(
                    "Resource",
                    name="cpu",
                    target={"type": "Utilization", "averageUtilization": 101},
                )
            ),
            annotations=KEDA,
        ),
        "spec.predictor.autoScaling.metrics[0].resource.target.averageUtilization: Invalid value",
    ),
    (
        "12 KEDA without query",
        isvc(predictor(**metric("External", target={"value": "1"})), annotations=KEDA),
        "spec.predictor.autoScaling.metrics[0].external.metric.query: Required value",
    ),
    (
        "12 KEDA without value",
        isvc(predictor(**metric("PodMetric", metric={"query": "a"})), annotations=KEDA),
        "spec.predictor.autoScaling.metrics[0].podmetric.target.value: Required value",
    ),
    (
        "13 Knative with an HPA",
        isvc(predictor(scaleMetric="rps"), annotations=KNATIVE_HPA),
        "spec.predictor.scaleMetric: Invalid value",
    ),
    (
        "13 Knative strategy",
        isvc(predictor(deploymentStrategy={"type": "Recreate"})),
        'spec.predictor.deploymentStrategy: Forbidden: {"type": "Recreate"}: in Knative mode',
    ),
    (
        "13 Knative metric",
        isvc(predictor(scaleMetric="cpu")),
        'spec.predictor.scaleMetric: Invalid value: "cpu": Knative mode scales on concurrency or',
    ),
    (
        "13 Knative rps target",
        isvc(predictor(scaleMetric="rps", scaleTarget=0)),
        "spec.predictor.scaleTarget: Invalid value: 0: it is less than 1 request a second.",
    ),
    (
        "14 mode",
        isvc(canary=[{"predictor": {"name": "b", "model": model()}, "trafficPercent": 1}]),
        "spec.canary: Forbidden: [1]: canary variants need Standard mode, and this service is in"
        " Knative mode.",
    ),
    (
        "14 stable without model",
        canary({"name": "b", "model": model()}, stable={"containers": [{"image": "a"}]}),
        'spec.predictor: Invalid value: ["containers"]: a service with canary variants serves a',
    ),
    (
        "14 nameless",
        canary({"model": model()}),
        "spec.canary[0].predictor.name: Required value: the variant's children are named by it.",
    ),
    (
        "14 same name twice",
        canary({"name": "b", "model": model()}, {"name": "b", "model": model()}),
        'spec.canary[1].predictor.name: Invalid value: "b": another variant has this name.',
    ),
    (
        "14 the stable name",
        canary({"name": "b", "model": model()}, stable=predictor(name="b")),
        'spec.canary[0].predictor.name: Invalid value: "b": the stable predictor has this name.',
    ),
    (
        "14 sum",
        canary({"name": "b", "model": model()}, {"name": "c", "model": model()}, percent=51),
        "spec.canary: Invalid value: [51, 51]: the shares sum to 102 percent.",
    ),
    (
        "14 no implementation",
        canary({"name": "b"}),
        "spec.canary[0].predictor: Required value: the component has no implementation",
    ),
    (
        "14 own checks",
        canary({"name": "b", "model": model(name="x")}),
        "spec.canary[0].predictor.model.name: Forbidden",
    ),
    (
        "14 more pods than stable",
        canary({"name": "b", "model": model(), "minReplicas": 2}),
        "spec.canary[0].predictor.minReplicas: Invalid value: 2: it is more than the stable",
    ),
    *(
        (
            f"14 {field}",
            canary({"name": "b", "model": model(), field: value}),
            f"spec.canary[0].predictor.{field}: Forbidden",
        )
        for field, value in [
            ("workerSpec", {}),
            ("maxReplicas", 2),
            ("scaleTarget", 2),
            ("scaleMetric", "cpu"),
            ("autoScaling", {}),
        ]
    ),
]


@pytest.mark.parametrize(("obj", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(obj: Object, said: str) -> None:
    found = causes(obj)
    assert any(cause.startswith(said) for cause in found), found
    assert all(" Fix: " in cause for cause in found)


@pytest.mark.parametrize(
    "obj",
    [
        workers(resources={"limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}}),
        workers({"serving.kserve.io/gpu-resource-types": '["a.example/npu"]'},
                resources={"limits": {"a.example/npu": 1}}),
        workers({CLASS: "none"}, storageUri="oci://a"),
        isvc(several(("pvc://a", "/m/a"), ("gs://b", "/m/b"), ("gs://c", "/m/c/d"))),
        isvc(predictor(minReplicas=0, maxReplicas=0, containerConcurrency=0)),
        isvc(predictor(minReplicas=3, maxReplicas=0)),
        isvc(predictor(scaleMetric="memory", scaleTarget=150), annotations=HPA),
        isvc(predictor(**metric("Resource", name="cpu", target={"type": "Utilization",
                                "averageUtilization": 60})), annotations=KEDA),
        isvc(predictor(**metric("External", metric={"query": "a"}, target={"value": 1})),
             annotations=KEDA),
        isvc(predictor(deploymentStrategy={"type": "Recreate"}), annotations=STANDARD),
        isvc(predictor(scaleMetric="rps", scaleTarget=1)),
        canary({"name": "b", "model": model(), "minReplicas": 1}),
        canary({"name": "b", "sklearn": {"storageUri": "gs://a"}}, percent=100),
        isvc(with_model(storageUri="gs://a",
                        confidential={"enabled": True, "resourceId": "kbs:///a/b/c"})),
        isvc(with_model(confidential={"enabled": False})),
    ],
)  # fmt: skip
def test_accepted(obj: Object) -> None:
    findings = judge(obj)
    assert (findings.causes, findings.warnings) == ([], [])


def test_a_configured_gpu_counts_and_standard_by_default_too() -> None:
    obj = isvc(predictor(scaleMetric="cpu", deploymentStrategy={}))
    assert causes(obj)
    assert causes(obj, standard=True) == []


def test_metrics_are_not_checked_in_standard_mode_without_a_class() -> None:
    assert causes(isvc(predictor(scaleTarget=101), annotations=STANDARD)) == []


WARNED: list[tuple[str, Object, str]] = [
    (
        "8 oci",
        isvc(with_model(storageUri="oci://a", confidential={"enabled": True, "resourceId": "kbs:///a/b/c"})),
        "spec.predictor.model.confidential: oci:// files are mounted and not downloaded",
    ),
    (
        "8 pvc",
        isvc(with_model(confidential={"enabled": True, "resourceId": "kbs:///a/b/c"})),
        "spec.predictor.model.confidential: pvc:// files are mounted and not downloaded",
    ),
    (
        "scheme",
        isvc(with_model(storageUri="s3a://a")),
        "spec.predictor.model.storageUri: s3a:// is no scheme that Kedge can bring by itself. Fix:"
        " Write s3://, or add a ClusterStorageContainer for it.",
    ),
    (
        "workers in Knative mode",
        isvc({"model": model(), "workerSpec": {}}),
        "spec.predictor.workerSpec: serving over several nodes needs Standard mode.",
    ),
    ("type", isvc(predictor(scaleMetricType="Value")), "spec.predictor.scaleMetricType: it has no"),
    (
        "logger's marshaller",
        isvc(predictor(logger={"mode": "all", "batchSize": 2})),
        "spec.predictor.logger.batchSize: it has no effect: payloads are sent to `url`, one by one",
    ),
    (
        "restart policy",
        isvc(predictor(restartPolicy="Never")),
        "spec.predictor.restartPolicy: it has no effect: the pods of a Deployment always restart",
    ),
    (
        "storage container without storage",
        isvc({"model": model(storageUri=None), "storageContainerName": "a"}),
        "spec.predictor.storageContainerName: it has no effect: the predictor has no storage URI",
    ),
    (
        "version of a pinned image",
        isvc(with_model(image="a@sha256:0", runtimeVersion="1")),
        "spec.predictor.model.runtimeVersion: it has no effect: the image is pinned",
    ),
    (
        "canary percentage in Standard mode",
        isvc(predictor(canaryTrafficPercent=10), annotations=STANDARD),
        "spec.predictor.canaryTrafficPercent: it has no effect: Standard mode splits traffic by"
        " spec.canary. Fix: Remove it, or use Knative mode",
    ),
    (
        "metric that nobody reads",
        isvc(
            predictor(scaleMetric="rps"),
            annotations={**STANDARD, "serving.kserve.io/autoscalerClass": "none"},
        ),
        "spec.predictor.scaleMetric: it has no effect: the autoscaler class is none",
    ),
    (
        "metric without autoscaler",
        isvc(predictor(scaleTarget=1), annotations={**STANDARD, CLASS: "none"}),
        "spec.predictor.scaleTarget: it has no effect: the autoscaler class is none.",
    ),
    (
        "target with KEDA",
        isvc(predictor(scaleTarget=1), annotations=KEDA),
        "spec.predictor.scaleTarget: it has no effect: KEDA reads autoScaling.metrics.",
    ),
    (
        "metrics in Knative mode",
        isvc(predictor(autoScaling={"metrics": []})),
        "spec.predictor.autoScaling: it has no effect: Knative mode scales by scaleMetric",
    ),
    (
        "class in Knative mode",
        isvc(annotations={MODE: "Knative", CLASS: "hpa"}),
        f"metadata.annotations[{CLASS}]: it has no effect: Knative mode has its own autoscaler.",
    ),
    (
        "Knative annotation in Standard mode",
        isvc(annotations={**STANDARD, "autoscaling.knative.dev/target": "1"}),
        "metadata.annotations[autoscaling.knative.dev/target]: it has no effect: it belongs to",
    ),
    (
        "tag routing in Standard mode",
        isvc(predictor(annotations={"serving.kserve.io/enable-tag-routing": "true"}),
             annotations=STANDARD),
        "spec.predictor.annotations[serving.kserve.io/enable-tag-routing]: it has no effect",
    ),
    (
        "a window that is too short",
        isvc(annotations={"autoscaling.knative.dev/window": "5s"}),
        "metadata.annotations[autoscaling.knative.dev/window]: '5s' is not used. Fix: Give it a"
        " duration",
    ),
    (
        "an old name of an annotation, on a component",
        isvc(predictor(annotations={"autoscaling.knative.dev/panicWindowPercentage": "half"})),
        "spec.predictor.annotations[autoscaling.knative.dev/panicWindowPercentage]: 'half' is not",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("obj", "said"), [row[1:] for row in WARNED], ids=[row[0] for row in WARNED]
)
def test_warned(obj: Object, said: str) -> None:
    findings = judge(obj)
    assert findings.causes == []
    assert any(warning.startswith(said) for warning in findings.warnings), findings.warnings
    assert all(" Fix: " in warning for warning in findings.warnings)
