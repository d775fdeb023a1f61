"""Scripts with models of their own: the parser, and KServe's names."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest

from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest
from kedge.server import parser
from kedge.server.errors import BadUsage
from kedge.server.kserve import (
    InferenceError,
    InferInput,
    InferOutput,
    InferResponse,
    Model,
    ModelServer,
    PredictorConfig,
    PredictorProtocol,
)
from kedge.server.kserve import InferRequest as TheirRequest
from kedge.server.options import parse_script
from kedge.server.predictor import GrpcPredictor, RestPredictor, forwarded


def test_a_script_adds_its_flags_to_those_of_every_server() -> None:
    own = argparse.ArgumentParser(parents=[parser])
    own.add_argument("--model_dir", default="/x")
    args, rest = own.parse_known_args(["--model_name=a", "--model_dir=/y", "--zzz=1"])
    assert (args.model_name, args.model_dir, args.http_port, rest) == ("a", "/y", 8080, ["--zzz=1"])


def test_flags_win_over_the_constructor() -> None:
    options = parse_script(["--http_port=1"], {}, http_port=7, grpc_port=8)
    assert (options.http_port, options.grpc_port, options.predictor) == (1, 8, None)
    options = parse_script(["--predictor_host=h", "--predictor_protocol=v2"], {})
    assert options.predictor == PredictorConfig("h", "v2")
    with pytest.raises(BadUsage, match="grpc-v2"):
        parse_script(["--predictor_host=h", "--predictor_protocol=v3"], {})


@pytest.mark.parametrize(
    ("host", "base", "target"),
    [
        ("iris", "http://iris", "iris:80"),
        ("iris:8080", "http://iris:8080", "iris:8080"),
        ("fd00::1", "http://[fd00::1]", "[fd00::1]:80"),
        ("[fd00::1]:8080", "http://[fd00::1]:8080", "[fd00::1]:8080"),
    ],
)
def test_a_predictor_may_be_an_address_of_ipv6(host: str, base: str, target: str) -> None:
    assert RestPredictor(PredictorConfig(host))._base == base
    assert GrpcPredictor(PredictorConfig(host, "grpc-v2"))._target == target


def test_a_script_that_cannot_start_ends_with_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        ModelServer().start([], ["--predictor_host=h", "--predictor_protocol=v3"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("BadUsage: The predictor protocol 'v3'")


def test_only_identity_and_trace_travel_on() -> None:
    headers = {"authorization": "a", "traceparent": "t", "host": "h", "cookie": "c"}
    assert forwarded(headers) == {"authorization": "a", "traceparent": "t"}


def test_what_the_server_hands_over_is_an_instance_of_kserve_s_names() -> None:
    request = InferRequest.from_json("m", {"x": ("FP32", [2], [1, 2])})
    there: Any = request
    assert isinstance(there, TheirRequest)
    assert isinstance(there.inputs[0], InferInput)
    assert not isinstance(there, InferResponse)
    assert not isinstance(there, InferInput)
    assert there.inputs[0].as_numpy().tolist() == there.inputs[0].data == [1.0, 2.0]


def test_kserve_s_constructors() -> None:
    output = InferOutput("y", [2], "FP32", [1, 2])
    answer = InferResponse("7", "m", [output])
    assert (answer.id, answer.model_name) == ("7", "m")
    assert answer.output("y").array.dtype == np.float32
    request = TheirRequest(model_name="m", infer_inputs=[InferInput("x", [1], "BYTES", ["é"])])
    assert request.inputs[0].as_string() == ["é"]
    blank = InferInput("x", [2], "INT32")
    blank.set_data_from_numpy(np.array([1, 2], dtype=np.int32))
    assert blank.data == [1, 2]
    with pytest.raises(InferenceError, match="unexpected datatype FP64"):
        blank.set_data_from_numpy(np.zeros(2))
    with pytest.raises(InvalidInput):
        InferInput("x", [1], "FP31", [1])


def test_a_model_may_name_its_predictor_itself() -> None:
    model = Model("m")
    assert model.predictor_host is None
    model.protocol = PredictorProtocol.REST_V2
    model.predictor_host = "h"
    assert model.predictor_config == PredictorConfig("h", "v2")
