"""What a component's fields become for a server of Kedge, and what is said of any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from kedge.controllers.inferenceservice.merge import Tree
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.serving_flags import ServingFlags
from kedge.settings.serving import Logger, ServingConfig

OURS, FOREIGN = "kedge/sklearnserver:1", "acme/server:1"
PREDICTOR = "predictor"


def flags(
    spec: Mapping[str, Any],
    *,
    image: str = OURS,
    annotations: Mapping[str, str] | None = None,
    logger: Logger | None = None,
    kind: ComponentKind = ComponentKind.PREDICTOR,
    **container: Any,
) -> tuple[list[str], list[str], Tree]:
    """The arguments, the warnings, and the pod."""
    pod: Tree = {"containers": [{"name": "kserve-container", "image": image, **container}]}
    config = ServingConfig.default()
    if logger is not None:
        config = replace(config, logger=logger)
    made = ServingFlags(kind, spec, annotations or {}, config)
    made.add(pod, "iris", "ml")
    return pod["containers"][0].get("args", []), [str(one) for one in made.warnings], pod


def test_nothing_asked_nothing_added() -> None:
    args, warnings, pod = flags({"minReplicas": 1})
    assert (args, warnings) == ([], [])
    assert "env" not in pod["containers"][0]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containerConcurrency": 4}, ["--max_concurrency=4"]),
        ({"containerConcurrency": 0}, []),
        ({"timeout": 30}, ["--request_timeout=30"]),
        (
            {"timeout": 30, "batcher": {"timeout": 10}},
            ["--request_timeout=10", "--batching=true"],
        ),
        ({"batcher": {}}, ["--batching=true"]),
        (
            {"batcher": {"maxBatchSize": 16, "maxLatency": 300}},
            ["--batching=true", "--max_batch_size=16", "--max_latency=300"],
        ),
    ],
)
def test_limits_and_batches(spec: dict[str, Any], expected: list[str]) -> None:
    assert flags(spec)[0] == expected


def test_the_batchers_own_shape_is_an_annotation() -> None:
    asked = {"serving.kedge.dev/batcher-response": "kserve"}
    assert flags({"batcher": {}}, annotations=asked)[0][-1] == "--batcher_response=true"
    assert flags({}, annotations=asked)[0] == []


def test_payloads() -> None:
    logger = {
        "url": "http://sink/$x",
        "mode": "request",
        "metadataHeaders": ["x-user", "x-team"],
        "metadataAnnotations": ["owner", "none"],
    }
    args, warnings, pod = flags({"logger": logger}, annotations={"owner": "me, $HOME"})
    assert args == [
        "--log-url=http://sink/$$x",
        "--log-mode=request",
        "--source-uri=$(POD_NAME)",
        "--log-inference-service=iris",
        "--log-namespace=ml",
        "--log-component=predictor",
        "--metadata-headers=x-user,x-team",
        "--metadata-annotations=owner=me, $$HOME",
    ]
    assert warnings == ["spec.predictor.logger.metadataAnnotations: there is no annotation `none`."]
    (env,) = pod["containers"][0]["env"]
    assert env["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_where_to_by_default() -> None:
    args, _, _ = flags({"logger": {"mode": "all"}}, logger=Logger(default_url="http://broker"))
    assert args[0] == "--log-url=http://broker"
    args, warnings, _ = flags({"logger": {"mode": "all"}})
    assert args == []
    assert "spec.predictor.logger.url: payloads are not logged, for nothing says" in warnings[0]


@pytest.mark.parametrize("url", ["s3://bucket", "gs://bucket", "nowhere"])
def test_where_nothing_can_be_logged_to(url: str) -> None:
    args, warnings, _ = flags({"logger": {"mode": "all", "url": url}})
    assert args == []
    assert f"payloads are not logged: {url} is neither" in warnings[0]


def test_certificates_of_the_sink() -> None:
    settings = Logger(ca_bundle="bundle", ca_cert_file="ca.crt", tls_skip_verify=True)
    spec = {"logger": {"mode": "all", "url": "https://sink"}}
    args, _, pod = flags(spec, logger=settings)
    assert args[-2:] == ["--logger-ca-cert-file=ca.crt", "--logger-tls-skip-verify=true"]
    assert pod["volumes"][0]["configMap"] == {"name": "bundle", "optional": True}
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == "/etc/tls/logger"


def test_what_the_user_said_stays() -> None:
    args, _, _ = flags(
        {"containerConcurrency": 4, "timeout": 9, "batcher": {}},
        args=["--max-concurrency", "2", "--batching=false"],
    )
    assert args == ["--max-concurrency", "2", "--batching=false", "--request_timeout=9"]


def test_a_foreign_server_is_left_alone_and_that_is_said() -> None:
    spec = {"logger": {"mode": "all", "url": "http://a"}, "batcher": {}, "containerConcurrency": 1}
    args, warnings, _ = flags(spec, image=FOREIGN)
    assert args == []
    assert [one.partition(",")[0] for one in warnings] == [
        "spec.predictor.logger: its payloads are not logged",
        "spec.predictor.batcher: its requests are not batched",
    ]
    declared = {"serving.kserve.io/server-type": "kedge"}
    args, warnings, _ = flags(spec, image=FOREIGN, annotations=declared)
    assert "--log-url=http://a" in args
    assert warnings == []


def test_explanations_are_not_batched() -> None:
    args, warnings, _ = flags({"batcher": {}}, kind=ComponentKind.EXPLAINER)
    assert args == []
    assert warnings == ["spec.explainer.batcher: explanations are not batched."]
