"""InferenceServices for the tables of rules, and what validation says about them."""

from __future__ import annotations

from typing import Any

import msgspec

from kedge.api.findings import Findings
from kedge.api.inferenceservice.validation import validate
from kedge.settings.serving import Deploy, ServingConfig

CONFIG = ServingConfig.default()
MODE = "serving.kserve.io/deploymentMode"
CLASS = "serving.kserve.io/autoscalerClass"
STANDARD = {MODE: "Standard"}
MODEL_MESH = {MODE: "ModelMesh"}

Object = dict[str, Any]


def model(**fields: Any) -> Object:
    return {"modelFormat": {"name": "sklearn"}, "storageUri": "pvc://claim/a", **fields}


def isvc(
    predictor: Object | None = None,
    *,
    name: str = "iris",
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    status: Object | None = None,
    **spec: Any,
) -> Object:
    """A service; without a predictor a valid one."""
    metadata: Object = {"name": name, "namespace": "default", "annotations": annotations or {}}
    metadata["labels"] = labels or {}
    found = {"model": model()} if predictor is None else predictor
    return {
        "metadata": metadata, "spec": {"predictor": found, **spec}, "status": status or {},
    }  # fmt: skip


def with_model(**fields: Any) -> Object:
    return {"model": model(**fields)}


def judge(obj: Object, old: Object | None = None, *, standard: bool = False) -> Findings:
    config = CONFIG
    if standard:
        config = msgspec.structs.replace(config, deploy=Deploy(default_deployment_mode="Standard"))
    return validate(obj, old, config)


def causes(obj: Object, old: Object | None = None, *, standard: bool = False) -> list[str]:
    return [str(cause) for cause in judge(obj, old, standard=standard).causes]


def warnings(obj: Object, *, standard: bool = False) -> list[str]:
    return judge(obj, standard=standard).warnings
