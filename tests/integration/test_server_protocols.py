"""Real models, served by a real process, asked over every protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.integration import trained
from tests.integration.server_process import Served, serving

from kedge.protocol.inference import InferRequest, RequestedOutput
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages, rest

ROWS = trained.ROWS
Answer = list[Any]


@pytest.fixture(scope="module", params=["sklearn", "xgboost", "lightgbm"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    makers: dict[str, Callable[[Path], Path]] = {
        "sklearn": trained.sklearn_classifier,
        "xgboost": trained.xgboost_classifier,
        "lightgbm": trained.lightgbm_classifier,
    }
    folder = makers[request.param](tmp_path_factory.mktemp(request.param))
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving(request.param, folder, log) as one:
        yield one


def classes(answer: Any) -> list[int]:
    """The class per row, from labels or from probabilities."""
    array = np.array(answer)
    return [int(one) for one in (array.argmax(axis=1) if array.ndim == 2 else array)]


def infer_request(**fields: Any) -> InferRequest:
    request = InferRequest.from_json("m", {"input-0": ("FP32", [2, 4], ROWS)})
    request.id = "7"
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def rpc(served: Served, name: str, request: Any, answer: Any, **options: Any) -> Any:
    path = f"/inference.GRPCInferenceService/{name}"
    with grpc.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
        return call(request, timeout=30, **options)


def test_v1(served: Served) -> None:
    status, body = served.post("/v1/models/m:predict", {"instances": ROWS})
    assert status == 200
    assert classes(body["predictions"]) == [1, 1]


def test_v2_json(served: Served) -> None:
    body, _ = rest.encode_request(infer_request())
    status, answer = served.post("/v2/models/m/infer", body)
    assert status == 200
    assert (answer["model_name"], answer["id"]) == ("m", "7")
    assert set(answer) == {"model_name", "id", "outputs"}
    (output,) = answer["outputs"]
    assert output["name"] == "output-0"
    assert classes(np.array(output["data"]).reshape(output["shape"])) == [1, 1]


def test_v2_binary_both_ways(served: Served) -> None:
    asked = [RequestedOutput("output-0", {"binary_data": True})]
    body, length = rest.encode_request(infer_request(outputs=asked), binary=True)
    status, headers, raw = served.request(
        "POST",
        "/v2/models/m/infer",
        body,
        inference_header_content_length=str(length),
        content_type="application/octet-stream",
    )
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    answer = rest.decode_response(raw, int(headers[rest.LENGTH_HEADER]))
    assert classes(answer.outputs[0].array) == [1, 1]


@pytest.mark.parametrize("raw", [True, False])
def test_grpc(served: Served, raw: bool) -> None:
    message = codec.encode_request(infer_request(), raw=raw)
    answer = rpc(served, "ModelInfer", message, messages.ModelInferResponse)
    assert bool(answer.raw_output_contents) is raw
    assert answer.id == "7"
    assert classes(codec.decode_response(answer).outputs[0].array) == [1, 1]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_grpc_compressed(served: Served, compression: grpc.Compression) -> None:
    message = codec.encode_request(infer_request())
    answer = rpc(
        served, "ModelInfer", message, messages.ModelInferResponse, compression=compression
    )
    assert classes(codec.decode_response(answer).outputs[0].array) == [1, 1]


def test_grpc_large(served: Served) -> None:
    """8 MB there and more than a window back, on one connection, several at a time."""
    rows = np.tile(np.array(ROWS, "f4"), (250_000, 1))
    request = InferRequest.from_json("m", {})
    request.inputs = [type(infer_request().inputs[0]).from_array("input-0", rows)]
    message = codec.encode_request(request)
    path = "/inference.GRPCInferenceService/ModelInfer"
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(served.grpc, options=options) as channel:
        call = channel.unary_unary(
            path,
            messages.ModelInferRequest.SerializeToString,
            messages.ModelInferResponse.FromString,
        )
        pending = [call.future(message, timeout=90) for _ in range(3)]
        for one in pending:
            output = codec.decode_response(one.result()).outputs[0]
            assert output.shape[0] == 500_000
            assert classes(output.array[:2]) == [1, 1]


def test_metadata_and_probes(served: Served) -> None:
    assert served.get("/") == (200, {"status": "alive"})
    assert served.get("/v1/models") == (200, {"models": ["m"]})
    assert served.get("/v1/models/m") == (200, {"name": "m", "ready": True})
    assert served.get("/v2/health/live") == (200, {"live": True})
    assert served.get("/v2/health/ready") == (200, {"ready": True})
    assert served.get("/v2/models") == (200, {"models": ["m"]})
    assert served.get("/v2/models/m/ready") == (200, {"name": "m", "ready": True})
    assert served.get("/v2")[1]["name"] == "kedge"
    status, metadata = served.get("/v2/models/m")
    assert status == 200
    assert metadata["inputs"][0]["name"] == "input-0"
    assert metadata["inputs"][0]["shape"] == [-1, 4]
    assert metadata["outputs"][0]["name"] == "output-0"


def test_grpc_metadata_and_probes(served: Served) -> None:
    m = messages
    assert rpc(served, "ServerLive", m.ServerLiveRequest(), m.ServerLiveResponse).live
    assert rpc(served, "ServerReady", m.ServerReadyRequest(), m.ServerReadyResponse).ready
    assert rpc(served, "ModelReady", m.ModelReadyRequest(name="m"), m.ModelReadyResponse).ready
    about = rpc(served, "ServerMetadata", m.ServerMetadataRequest(), m.ServerMetadataResponse)
    assert about.name == "kedge"
    metadata = rpc(
        served, "ModelMetadata", m.ModelMetadataRequest(name="m"), m.ModelMetadataResponse
    )
    assert list(metadata.inputs[0].shape) == [-1, 4]
    with grpc.insecure_channel(served.grpc) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            m.HealthCheckRequest.SerializeToString,
            m.HealthCheckResponse.FromString,
        )
        assert check(m.HealthCheckRequest()).status == m.HealthCheckResponse.SERVING


def test_repository(served: Served) -> None:
    index = served.post("/v2/repository/index", {})[1]
    assert index == [{"name": "m", "state": "READY", "reason": ""}]
    assert served.post("/v2/repository/models/m/unload", {}) == (200, {"name": "m", "unload": True})
    assert served.post("/v1/models/m:predict", {"instances": ROWS})[0] == 404
    assert served.get("/v2/models/m/ready")[0] == 404
    assert served.post("/v2/repository/models/m/load", {}) == (200, {"name": "m", "load": True})
    assert served.post("/v2/repository/models/no/load", {})[0] == 404
    assert served.post("/v2/repository/models/no/unload", {})[0] == 404
    m = messages
    loaded = rpc(
        served,
        "RepositoryModelLoad",
        m.RepositoryModelLoadRequest(repository_name="m"),
        m.RepositoryModelLoadResponse,
    )
    assert (loaded.model_name, loaded.isLoaded) == ("m", True)
    rows = rpc(served, "RepositoryIndex", m.RepositoryIndexRequest(), m.RepositoryIndexResponse)
    assert [(one.name, one.state) for one in rows.models] == [("m", "READY")]
    test_v1(served)


def test_metrics(served: Served) -> None:
    test_v1(served)
    _, headers, page = served.request("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain")
    text = page.decode()
    for step in ("preprocess", "predict", "postprocess"):
        assert f'request_{step}_seconds_bucket{{le="0.005",model_name="m"}}' in text
    assert 'model_requests_total{code="200",model_name="m",protocol="v1"}' in text
    assert "process_resident_memory_bytes" in text


BAD_INPUT: list[tuple[str, str, Any, int, str]] = [
    ("unknown model", "/v1/models/no:predict", {"instances": ROWS}, 404, "does not exist"),
    ("unknown model", "/v2/models/no/infer", {"inputs": []}, 404, "does not exist"),
    ("no explainer", "/v1/models/m:explain", {"instances": ROWS}, 501, "does not explain"),
    ("not JSON", "/v1/models/m:predict", b"{", 400, "Unrecognized request format"),
    ("empty", "/v1/models/m:predict", b"", 400, "Unrecognized request format"),
    ("a list", "/v1/models/m:predict", [1], 400, "unsupported payload type <class 'list'>"),
    ("no instances", "/v1/models/m:predict", {}, 400, 'neither "instances" nor "inputs"'),
    ("no list", "/v1/models/m:predict", {"instances": 3}, 400, 'Expected "instances" to be a list'),
    ("no rows", "/v1/models/m:predict", {"instances": []}, 400, "has no rows"),
    ("one row", "/v1/models/m:predict", {"instances": ROWS[0]}, 400, "list of lists of 4 values"),
    ("ragged", "/v1/models/m:predict", {"instances": [[1, 2], [3]]}, 400, "instances[1] has 1"),
    ("narrow", "/v1/models/m:predict", {"instances": [[1, 2]]}, 400, "Each row has 2 values"),
    ("text", "/v1/models/m:predict", {"instances": [["a", 1, 2, 3]]}, 400, "'a'"),
    ("not JSON", "/v2/models/m/infer", b"{", 400, "Unrecognized request format"),
    ("no inputs", "/v2/models/m/infer", {}, 400, "missing required field `inputs`"),
    ("empty inputs", "/v2/models/m/infer", {"inputs": []}, 400, "at least one tensor"),
    ("invalid UTF-8", "/v2/models/m/infer", b'{"id":"\xff"}', 400, "Unrecognized request format"),
    ("deep", "/v1/models/m:predict", b"[" * 200_000, 400, "Unrecognized request format"),
]


@pytest.mark.parametrize(("case", "path", "body", "status", "message"), BAD_INPUT)
def test_bad_input(
    served: Served, case: str, path: str, body: Any, status: int, message: str
) -> None:
    found, answer = served.post(path, body)
    assert (found, set(answer)) == (status, {"error"}), case
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2, 3]}, "has 8 elements, but its shape [2, 3] needs 6"),
        ({"datatype": "FP31"}, "datatype 'FP31', which does not exist"),
        ({"data": [["a"] * 4] * 2}, "text such as 'a'"),
        ({"data": None}, 'expected "data" to be a list'),
        ({"shape": [1, 8]}, "Each row has 8 values"),
    ],
)
def test_bad_tensors(served: Served, change: dict[str, Any], message: str) -> None:
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": ROWS} | change
    status, answer = served.post("/v2/models/m/infer", {"inputs": [tensor]})
    assert status == 400
    assert message in answer["error"]


def test_unknown_output(served: Served) -> None:
    body, _ = rest.encode_request(infer_request(outputs=[RequestedOutput("no")]))
    status, answer = served.post("/v2/models/m/infer", body)
    assert status == 400
    assert "Unexpected inference output 'no' for model 'm'" in answer["error"]


def test_unknown_paths(served: Served) -> None:
    assert served.get("/nope") == (404, {"error": "Not Found: GET /nope", "detail": "Not Found"})
    assert served.get("/v1/models/m:predict")[0] == 404
    status, body = served.post("/v2/health/live", {})
    assert (status, body["detail"]) == (405, "Method Not Allowed")


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("no such model", {"model_name": "no"}, grpc.StatusCode.NOT_FOUND),
        ("bad shape", {"shape": [9]}, grpc.StatusCode.INVALID_ARGUMENT),
        ("bad output", {"output": "no"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_bad_grpc(served: Served, name: str, change: dict[str, Any], code: grpc.StatusCode) -> None:
    message = codec.encode_request(infer_request())
    message.model_name = change.get("model_name", "m")
    if "shape" in change:
        message.inputs[0].shape[:] = change["shape"]
    if "output" in change:
        message.outputs.add(name=change["output"])
    with pytest.raises(grpc.RpcError) as caught:
        rpc(served, "ModelInfer", message, messages.ModelInferResponse)
    assert caught.value.code() is code, name


def test_grpc_methods_that_do_not_exist(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        rpc(served, "ModelTrain", messages.ServerLiveRequest(), messages.ServerLiveResponse)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_large_json_is_refused_with_the_way_out(served: Served) -> None:
    status, body = served.post("/v1/models/m:predict", b" " * (17 << 20))
    assert status == 413
    assert "16 MiB" in body["error"]
    assert "binary form" in body["error"]
    served.connection.close()
    assert json.loads(served.request("GET", "/")[2]) == {"status": "alive"}
