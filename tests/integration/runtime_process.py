"""A runtime's model in a real process, asked the same thing over every protocol."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tests.integration import server_process
from tests.integration.server_process import Served

from kedge.protocol.datatypes import Array
from kedge.protocol.inference import InferRequest, InferResponse, RequestedOutput, Tensor
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages, rest


@contextmanager
def serving(runtime: str, folder: Path, log: Path, *arguments: str, **env: str) -> Iterator[Served]:
    with server_process.serving(runtime, folder, log, *arguments, **env) as served:
        yield served


def failed_start(runtime: str, folder: Path, *arguments: str, **env: str) -> str:
    """The last line of stderr of a server that must not start."""
    code, line = server_process.failed_start(runtime, folder, *arguments, **env)
    assert code == 1
    return line


def metadata(served: Served, model: str = "m") -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs: name -> (datatype, shape). REST and gRPC must agree."""
    status, body = served.get(f"/v2/models/{model}")
    assert status == 200
    told = tuple(
        {one["name"]: (one["datatype"], one["shape"]) for one in body[side]}
        for side in ("inputs", "outputs")
    )
    question = messages.ModelMetadataRequest(name=model)
    answer = _rpc(served, "ModelMetadata", question, messages.ModelMetadataResponse)
    over_grpc = tuple(
        {one.name: (one.datatype, list(one.shape)) for one in side}
        for side in (answer.inputs, answer.outputs)
    )
    assert over_grpc == told
    return told[0], told[1]


def predictions(served: Served, instances: list[Any], model: str = "m") -> Any:
    status, body = served.post(f"/v1/models/{model}:predict", {"instances": instances})
    assert status == 200, body
    return body["predictions"]


def everywhere(
    served: Served,
    inputs: Mapping[str, Array],
    outputs: tuple[str, ...] | None = None,
    model: str = "m",
) -> dict[str, Array]:
    """The answer over V2 as JSON, as binary, and over gRPC typed and raw; all must agree."""
    tensors = [Tensor.from_array(name, value) for name, value in inputs.items()]
    request = InferRequest(model, tensors, id="7")
    if outputs is not None:
        request.outputs = [RequestedOutput(name) for name in outputs]
    answers = [
        _over_json(served, request),
        _over_binary(served, request),
        *(_over_grpc(served, request, raw=raw) for raw in (False, True)),
    ]
    first, *others = (
        {tensor.name: tensor.array for tensor in answer.outputs} for answer in answers
    )
    for other in others:
        assert list(other) == list(first)
        for name, array in first.items():
            assert other[name].dtype == array.dtype
            np.testing.assert_array_equal(_plain(other[name]), _plain(array))
    assert {answer.id for answer in answers} == {"7"}
    return {name: _plain(array) for name, array in first.items()}


def _plain(array: Array) -> Array:
    if array.dtype.kind != "O":
        return array
    decoded = [one.decode() if isinstance(one, bytes) else one for one in array.ravel()]
    return np.array(decoded, dtype=object).reshape(array.shape)


def _over_json(served: Served, request: InferRequest) -> InferResponse:
    body, _ = rest.encode_request(request)
    path = f"/v2/models/{request.model_name}/infer"
    status, _, answer = served.request("POST", path, body)
    assert status == 200, answer
    return rest.decode_response(answer)


def _over_binary(served: Served, request: InferRequest) -> InferResponse:
    wanted, request.parameters = request.parameters, {"binary_data_output": True}
    body, length = rest.encode_request(request, binary=True)
    request.parameters = wanted
    status, headers, answer = served.request(
        "POST",
        f"/v2/models/{request.model_name}/infer",
        body,
        inference_header_content_length=str(length),
        content_type="application/octet-stream",
    )
    assert status == 200, answer
    return rest.decode_response(answer, int(headers[rest.LENGTH_HEADER]))


def _over_grpc(served: Served, request: InferRequest, *, raw: bool) -> InferResponse:
    message = codec.encode_request(request, raw=raw)
    return codec.decode_response(_rpc(served, "ModelInfer", message, messages.ModelInferResponse))


def _rpc(served: Served, name: str, request: Any, answer: Any) -> Any:
    path = f"/inference.GRPCInferenceService/{name}"
    with grpc.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
        return call(request, timeout=30)


def infer_error(served: Served, inputs: Mapping[str, Array]) -> tuple[int, str]:
    """Status and message of a V2 request that is refused."""
    request = InferRequest("m", [Tensor.from_array(name, value) for name, value in inputs.items()])
    body, _ = rest.encode_request(request)
    status, answer = served.post("/v2/models/m/infer", body)
    return status, str(answer["error"])


def stderr_of(script: str, *arguments: str) -> str:
    """What a Python script says; for what must not be imported into the tests' own process."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        timeout=60,
        check=False,
        env=server_process.environment(),
    )
    return done.stderr.decode()
