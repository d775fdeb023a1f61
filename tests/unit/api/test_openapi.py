"""Types as JSON schema."""

from __future__ import annotations

import json
from typing import Any

from kedge.api.columns import COLUMNS
from kedge.api.schema import definitions, openapi
from kedge.api.scheme import INFERENCE_SERVICE, KINDS, POD


def at(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        schema = schema["properties"][name]
    return schema


def test_every_reference_leads_somewhere() -> None:
    named = definitions(KINDS)
    text = json.dumps(named)
    referred = {part.partition('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    assert referred <= set(named)
    assert len(named) > 250


def test_kinds_say_who_they_are() -> None:
    named = definitions([INFERENCE_SERVICE, POD])
    assert named["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"] == [
        {"group": "", "version": "v1", "kind": "Pod"}
    ]
    service = named["io.kserve.serving.v1beta1.InferenceService"]
    assert service["x-kubernetes-group-version-kind"][0]["group"] == "serving.kserve.io"


def test_fields_are_explained() -> None:
    named = definitions([INFERENCE_SERVICE])
    predictor = named["io.kserve.serving.v1beta1.PredictorSpec"]
    assert at(predictor, "model")["description"] == "A model and where it is."
    model = named["io.kserve.serving.v1beta1.ModelSpec"]
    assert model["description"].startswith("A model and where it is; a runtime")
    for name in model["properties"]:
        assert model["properties"][name]["description"], name


def test_every_field_of_our_own_types_has_a_description() -> None:
    for name, schema in definitions(KINDS).items():
        if name.startswith(("io.kserve.", "io.k8s.networking.gateway.")):
            for field, property_ in schema["properties"].items():
                assert property_.get("description"), f"{name}.{field}"


def test_version_2_documents_keep_the_description_beside_the_reference() -> None:
    named = definitions([INFERENCE_SERVICE], "#/definitions/")
    model = at(named["io.kserve.serving.v1beta1.PredictorSpec"], "model")
    assert model == {
        "$ref": "#/definitions/io.kserve.serving.v1beta1.ModelSpec",
        "description": "A model and where it is.",
    }


def test_mixed_types_maps_and_enums() -> None:
    predictor = at(openapi(INFERENCE_SERVICE), "spec", "predictor")
    limits = at(predictor, "model", "resources", "limits")
    assert limits["additionalProperties"]["x-kubernetes-int-or-string"] is True
    assert at(predictor, "deploymentStrategy", "rollingUpdate", "maxSurge")["anyOf"] == [
        {"type": "integer"}, {"type": "string"},
    ]  # fmt: skip
    assert at(predictor, "nodeSelector")["additionalProperties"] == {"type": "string"}
    assert at(predictor, "scaleMetric")["enum"] == ["cpu", "memory", "concurrency", "rps"]
    assert "ephemeralContainers" not in predictor["properties"]


def test_lists_say_how_they_merge() -> None:
    container = definitions([POD])["io.k8s.api.core.v1.Container"]
    ports = at(container, "ports")
    assert ports["x-kubernetes-list-map-keys"] == ["containerPort", "protocol"]
    assert ports["x-kubernetes-patch-merge-key"] == "containerPort"
    assert "x-kubernetes-list-type" not in at(container, "args")


def test_the_columns_of_an_inference_service() -> None:
    names = [column.name for column in COLUMNS[INFERENCE_SERVICE]]
    assert names == [
        "URL", "Ready", "Prev", "Latest", "PrevRolledoutRevision", "LatestReadyRevision", "Age",
    ]  # fmt: skip
