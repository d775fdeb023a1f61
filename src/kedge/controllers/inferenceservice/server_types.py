"""What well-known model servers need besides what their runtime says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.merge import add_env_if_absent, set_env
from kedge.controllers.inferenceservice.names import MODEL_PATH, SERVER_TYPE

_WELL_KNOWN = {
    "kserve-mlserver": "mlserver",
    "kserve-torchserve": "torchserve",
    "kserve-tritonserver": "tritonserver",
    "kserve-tensorflow-serving": "tensorflow-serving",
    "kserve-huggingfaceserver": "huggingfaceserver",
    "kserve-vllmserver": "vllmserver",
}
_MLSERVER_CLASSES = {
    "sklearn": "mlserver_sklearn.SKLearnModel",
    "xgboost": "mlserver_xgboost.XGBoostModel",
    "lightgbm": "mlserver_lightgbm.LightGBMModel",
    "mlflow": "mlserver_mlflow.MLflowRuntime",
}


@dataclass
class ServerDefaults:
    """A model as its server wants it; `labels` reach templates and child objects."""

    model: dict[str, Any]
    protocol: str
    labels: dict[str, str] = field(default_factory=dict)


def server_type(runtime: Object) -> str:
    """The family a runtime belongs to; empty when unknown."""
    metadata = runtime["metadata"]
    declared = (metadata.get("annotations") or {}).get(SERVER_TYPE)
    return str(declared or _WELL_KNOWN.get(str(metadata["name"]), ""))


def apply_defaults(
    model: dict[str, Any], protocol: str, family: str, isvc: str, *, has_storage: bool
) -> ServerDefaults:
    """`model`, a copy that may be changed, with its server's defaults."""
    defaults = ServerDefaults(model, protocol)
    rule = _RULES.get(family)
    if rule is not None:
        rule(defaults, isvc, has_storage)
    return defaults


def _mlserver(defaults: ServerDefaults, isvc: str, has_storage: bool) -> None:
    defaults.protocol = defaults.protocol or "v2"
    if has_storage:
        env = [
            {"name": "MLSERVER_MODEL_NAME", "value": isvc},
            {"name": "MLSERVER_MODEL_URI", "value": MODEL_PATH},
        ]
    else:
        env = [{"name": "MLSERVER_LOAD_MODELS_AT_STARTUP", "value": "false"}]
    add_env_if_absent(defaults.model, env)
    name = str((defaults.model.get("modelFormat") or {}).get("name"))
    defaults.labels["modelClass"] = _MLSERVER_CLASSES.get(name, _MLSERVER_CLASSES["sklearn"])


def _torchserve(defaults: ServerDefaults, isvc: str, has_storage: bool) -> None:
    defaults.protocol = defaults.protocol or "v1"
    newer = defaults.protocol in ("v2", "grpc-v2")
    defaults.labels["serviceEnvelope"] = "kservev2" if newer else "kserve"
    set_env(defaults.model, "PROTOCOL_VERSION", defaults.protocol)


def _tritonserver(defaults: ServerDefaults, isvc: str, has_storage: bool) -> None:
    defaults.protocol = defaults.protocol or "v2"
    if not has_storage:
        defaults.model.setdefault("args", []).append("--model-control-mode=explicit")


_RULES: dict[str, Callable[[ServerDefaults, str, bool], None]] = {
    "mlserver": _mlserver,
    "torchserve": _torchserve,
    "tritonserver": _tritonserver,
}
