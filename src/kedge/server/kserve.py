"""KServe's names for what `kedge.server` has: a script written for KServe changes its import.

::

    from kedge.server.kserve import InferOutput, InferResponse, Model, ModelServer, model_server

Constructors take KServe's arguments in KServe's order. What the server hands to a model is
`kedge.server`'s own; `isinstance` against the names here holds for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np

from kedge.protocol import errors, inference
from kedge.protocol.datatypes import Array, array_from_json, datatype_of, find_datatype
from kedge.protocol.errors import InferenceError, InvalidInput, ModelNotFound, ModelNotReady
from kedge.protocol.inference import Parameters, RequestedOutput, Tensor
from kedge.server import logging, model_server
from kedge.server import model as native
from kedge.server.model import Headers
from kedge.server.predictor import PredictorConfig
from kedge.server.server import ModelServer as _ModelServer

__all__ = [
    "InferInput",
    "InferOutput",
    "InferRequest",
    "InferResponse",
    "InferenceError",
    "InvalidInput",
    "Model",
    "ModelNotFound",
    "ModelNotReady",
    "ModelServer",
    "PredictorConfig",
    "PredictorProtocol",
    "RequestedOutput",
    "errors",
    "logging",
    "model_server",
]


class PredictorProtocol(Enum):
    """How a predictor is asked."""

    REST_V1 = "v1"
    REST_V2 = "v2"
    GRPC_V2 = "grpc-v2"


class Model(native.Model):
    """KServe's base class: one name, and attributes that say where the predictor is."""

    def __init__(
        self,
        name: str,
        predictor_config: PredictorConfig | bool | None = None,
        return_response_headers: bool = False,
    ) -> None:
        """KServe's second argument has been a configuration, and is `return_response_headers`."""
        super().__init__(name)
        if isinstance(predictor_config, PredictorConfig):
            self.predictor_config = predictor_config
        self.return_response_headers = return_response_headers or predictor_config is True
        self.explainer_host: str | None = None
        self.protocol: str | PredictorProtocol = "v1"

    @property
    def predictor_host(self) -> str | None:
        return self.predictor_config.predictor_host if self.predictor_config else None

    @predictor_host.setter
    def predictor_host(self, host: str | None) -> None:
        self.predictor_config = PredictorConfig(host, _protocol(self.protocol)) if host else None

    def load(self) -> Any:
        self.ready = True
        return self.ready

    async def predict(
        self, payload: Any, headers: Headers | None = None, response_headers: Any = None
    ) -> Any:
        given = headers if headers is not None else {}
        forwarding = super().predict(payload, given)
        return await forwarding


def _protocol(name: str | PredictorProtocol) -> str:
    return str(name.value if isinstance(name, Enum) else name)


class ModelServer(_ModelServer):
    """KServe's arguments. Those that mean nothing here (threads, event loop) are not taken."""

    def __init__(
        self,
        http_port: int = 8080,
        grpc_port: int = 8081,
        *,
        enable_grpc: bool = True,
        enable_latency_logging: bool = True,
        grace_period: float = 30.0,
        predictor_config: PredictorConfig | None = None,
    ) -> None:
        super().__init__(
            http_port=http_port,
            grpc_port=grpc_port if enable_grpc else None,
            latency_log=enable_latency_logging,
            grace_seconds=grace_period,
            predictor=predictor_config,
        )


_NATIVE = frozenset({Tensor, inference.InferRequest, inference.InferResponse})


class _LikeNative(type):
    """What the server made counts as an instance of the class here."""

    def __instancecheck__(cls, one: object) -> bool:
        return type.__instancecheck__(cls, one) or type(one) in _NATIVE.intersection(cls.__mro__)


class InferInput(Tensor, metaclass=_LikeNative):
    """A tensor by KServe's constructor."""

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        datatype: str,
        data: Any = None,
        parameters: Parameters | None = None,
    ) -> None:
        kind = find_datatype(datatype, name)
        array = _array(data, name, kind.name, tuple(shape))
        super().__init__(name, kind.name, array.shape, array, dict(parameters or {}))

    def set_data_from_numpy(self, array: Array, binary_data: bool = True) -> None:
        """Takes an array of the declared datatype and shape."""
        if datatype_of(array) != self.datatype:
            raise InferenceError(
                f"got unexpected datatype {datatype_of(array)} from numpy array, expected "
                f"{self.datatype}"
            )
        self.array, self.shape = array, array.shape


class InferOutput(InferInput):
    """An output by KServe's constructor."""


def _array(data: Any, name: str, datatype: str, shape: tuple[int, ...]) -> Array:
    if data is None:
        return np.zeros(shape, find_datatype(datatype, name).dtype)
    if isinstance(data, np.ndarray):
        wanted = find_datatype(datatype, name).dtype
        return data.astype(wanted, copy=False).reshape(shape)
    return array_from_json(data, find_datatype(datatype, name), shape, name)


class InferRequest(inference.InferRequest, metaclass=_LikeNative):
    """A request by KServe's constructor."""

    def __init__(
        self,
        model_name: str,
        infer_inputs: list[Any],
        request_id: str | None = None,
        *,
        parameters: Parameters | None = None,
        request_outputs: list[RequestedOutput] | None = None,
        model_version: str | None = None,
    ) -> None:
        super().__init__(
            model_name,
            infer_inputs,
            request_id or "",
            model_version or "",
            dict(parameters or {}),
            request_outputs,
        )


class InferResponse(inference.InferResponse, metaclass=_LikeNative):
    """A response by KServe's constructor."""

    def __init__(
        self,
        response_id: str | None,
        model_name: str,
        infer_outputs: list[Any],
        model_version: str | None = None,
        *,
        parameters: Parameters | None = None,
    ) -> None:
        super().__init__(
            model_name,
            infer_outputs,
            response_id or "",
            model_version or "",
            dict(parameters or {}),
        )
