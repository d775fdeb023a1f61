"""The model server: it holds models and answers requests, blind to frameworks.

`dataplane` knows models and no transport; `http` and `grpc` translate and delegate to it;
`repository` holds the models; `main` is the process. Frameworks live in `kedge.runtimes`, wire
formats in `kedge.protocol`. It may import `kedge.protocol`, `kedge.storage`, `kedge.settings` and
`kedge.lib`, and never the control plane.

What users subclass and call is exported here, and imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from kedge.protocol.inference import InferRequest, InferResponse, ModelMetadata, Tensor
    from kedge.server.model import ArrayModel, Model
    from kedge.server.predictor import PredictorConfig
    from kedge.server.repository import Repository
    from kedge.server.server import ModelServer

    parser: ArgumentParser

__all__ = [
    "ArrayModel",
    "InferRequest",
    "InferResponse",
    "Model",
    "ModelMetadata",
    "ModelServer",
    "PredictorConfig",
    "Repository",
    "Tensor",
    "parser",
]

_HOMES = {
    "ArrayModel": "kedge.server.model",
    "InferRequest": "kedge.protocol.inference",
    "InferResponse": "kedge.protocol.inference",
    "Model": "kedge.server.model",
    "ModelMetadata": "kedge.protocol.inference",
    "ModelServer": "kedge.server.server",
    "PredictorConfig": "kedge.server.predictor",
    "Repository": "kedge.server.repository",
    "Tensor": "kedge.protocol.inference",
    "parser": "kedge.server.model_server",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
