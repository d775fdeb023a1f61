"""Transformers: what is forwarded, how a predictor's answers come back, and the example script."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration import trained
from tests.integration.server_process import Served, environment, serving
from tests.ports import free_ports

from kedge.protocol.errors import InvalidInput, ModelNotReady
from kedge.server import Model, PredictorConfig, kserve
from kedge.server.model import Headers
from kedge.testing import EchoModel, Refused, ServedModels, serve

EXAMPLE = Path(__file__).parents[2] / "examples" / "transformer" / "transformer.py"


class Transformer(Model):
    """Adds what can be seen on both sides."""

    def postprocess(self, result: Any, headers: Headers) -> Any:
        if isinstance(result, dict):
            result["seen"] = True
        return result


def to(served: ServedModels, protocol: str = "v1", **more: Any) -> PredictorConfig:
    host = served.grpc_target if protocol == "grpc-v2" else served.url.removeprefix("http://")
    return PredictorConfig(host, protocol, **more)


async def test_v1_goes_on_with_its_identity_and_nothing_else() -> None:
    echo = EchoModel("m")
    async with serve(echo) as behind, serve(Transformer("m"), predictor=to(behind)) as front:
        headers = {"x_request_id": "7", "authorization": "Bearer a", "traceparent": "00-ab-cd-01"}
        answer = await front.predict({"instances": [1]}, **headers, x_private="secret")
    assert answer == {"predictions": [1], "seen": True}
    seen = echo.requests[0][1]
    assert [seen[name.replace("_", "-")] for name in headers] == list(headers.values())
    assert "x-private" not in seen


@pytest.mark.parametrize("protocol", ["v2", "grpc-v2"])
@pytest.mark.parametrize("transport", ["rest", "grpc"])
@pytest.mark.parametrize("binary", [False, True])
async def test_open_inference_goes_on(protocol: str, transport: Any, binary: bool) -> None:
    echo = EchoModel("m")
    rows = np.array([[1.5, 2.5]], dtype=np.float32)
    async with (
        serve(echo) as behind,
        serve(Transformer("m"), predictor=to(behind, protocol)) as front,
    ):
        answer = await front.infer(
            {"x": rows}, transport=transport, binary=binary, x_request_id="7"
        )
    assert answer.output("x").array.tolist() == rows.tolist()
    assert echo.requests[0][0].raw is binary
    assert echo.requests[0][1]["x-request-id"] == "7"


@pytest.mark.parametrize("protocol", ["v2", "grpc-v2"])
@pytest.mark.parametrize(
    ("failure", "status"), [(InvalidInput("no such colour"), 400), (ModelNotReady("m"), 503)]
)
async def test_a_refusal_comes_back_as_it_was_said(
    protocol: str, failure: Exception, status: int
) -> None:
    echo = EchoModel("m")
    echo.fail = failure
    config = {"predictor_request_retries": 1}
    async with (
        serve(echo) as behind,
        serve(Transformer("m"), predictor=to(behind, protocol, **config)) as front,
    ):
        with pytest.raises(Refused) as caught:
            await front.infer({"x": np.zeros(1)})
    assert (caught.value.status, caught.value.body) == (status, {"error": str(failure)})
    assert len(echo.requests) == (2 if status == 503 else 1)


async def test_a_predictor_s_failure_is_not_the_client_s_fault() -> None:
    echo = EchoModel("m")
    echo.fail = ValueError("secret")
    async with serve(echo) as behind, serve(Transformer("m"), predictor=to(behind)) as front:
        with pytest.raises(Refused) as caught:
            await front.predict({"instances": [1]})
    assert caught.value.status == 500
    assert "Model m failed" in caught.value.body["error"]


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc-v2"])
async def test_ready_only_while_the_predictor_is(protocol: str) -> None:
    echo = EchoModel("m")
    async with serve(echo) as behind:
        config = to(behind, protocol, predictor_health_check=True)
        async with serve(Transformer("m"), predictor=config) as front:
            for path in ("/v2/health/ready", "/v2/models/m/ready", "/v1/models/m"):
                assert (await front.json("GET", path))["ready"] is True
            echo.ready = False
            for path in ("/v2/models/m/ready", "/v1/models/m"):
                with pytest.raises(Refused, match="Model with name m is not ready"):
                    await front.json("GET", path)
    if protocol != "v1":
        return
    async with serve(Transformer("m"), predictor=config) as front:
        ask = front.http.get(f"{front.url}/v2/health/ready")
        async with ask as answer:
            assert (answer.status, await answer.json()) == (503, {"ready": False})


async def test_explanations_come_from_the_explainer() -> None:
    class Explaining(Model):
        def explain(self, payload: Any, headers: Headers) -> Any:
            return {"explanations": payload["instances"]}

    async with serve(EchoModel("m")) as behind, serve(Explaining("m")) as beside:
        model = Transformer("m")
        async with serve(model, predictor=to(behind), explainer=to(beside)) as front:
            assert await front.predict({"instances": [1]}) == {"predictions": [1], "seen": True}
            answer = await front.predict({"instances": [1]}, verb="explain")
    assert answer["explanations"] == [1]


class Telling(kserve.Model):
    """KServe's manner of saying headers."""

    def postprocess(
        self, result: Any, headers: Headers | None = None, response_headers: Any = None
    ) -> Any:
        response_headers["x-told"] = "yes"
        response_headers["x-split"] = "a\r\nb: c"
        response_headers["content-length"] = "1"
        return result


async def test_answers_have_the_headers_that_models_say() -> None:
    echo = EchoModel("m")
    async with serve(echo) as behind:
        telling = Telling("m", return_response_headers=True)
        async with serve(telling, predictor=to(behind)) as front:
            url = f"{front.url}/v1/models/m:predict"
            sent = {"x-request-id": "7"}
            async with front.http.post(url, json={"instances": [1]}, headers=sent) as answer:
                assert await answer.json() == {"predictions": [1]}
                assert answer.headers["x-told"] == "yes"
                assert answer.headers.getall("x-request-id") == ["7"]
                assert "x-split" not in answer.headers and "b" not in answer.headers


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc-v2"])
async def test_a_predictor_that_is_not_there(protocol: str) -> None:
    (port,) = free_ports(1)
    config = PredictorConfig(f"127.0.0.1:{port}", protocol, predictor_request_retries=1)
    async with serve(Transformer("m"), predictor=config) as front:
        ask = (
            front.predict({"instances": [1]})
            if protocol == "v1"
            else front.infer({"x": np.zeros(1)})
        )
        with pytest.raises(Refused) as caught:
            await ask
    assert caught.value.status == 502
    assert "cannot be reached" in caught.value.body["error"]


class Hanging(Model):
    async def predict(self, payload: Any, headers: Headers) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize("protocol", ["v2", "grpc-v2"])
async def test_a_predictor_that_takes_too_long(protocol: str) -> None:
    async with (
        serve(Hanging("m")) as behind,
        serve(
            Transformer("m"), predictor=to(behind, protocol, predictor_request_timeout_seconds=0.1)
        ) as front,
    ):
        with pytest.raises(Refused) as caught:
            await front.infer({"x": np.zeros(1)})
    assert caught.value.status == 504


async def test_protocols_are_not_mixed_and_a_model_alone_says_so() -> None:
    async with serve(EchoModel("m")) as behind, serve(Transformer("m"), predictor=to(behind)) as f:
        with pytest.raises(Refused, match="predictor speaks V1") as caught:
            await f.infer({"x": np.zeros(1)})
        assert caught.value.status == 400
    async with serve(Transformer("m")) as alone:
        with pytest.raises(Refused, match="--predictor_host") as caught:
            await alone.predict({"instances": [1]})
        assert caught.value.status == 501


async def test_a_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server answers whatever host it is asked for, so it can stand for the proxy."""
    echo = EchoModel("m")
    async with serve(echo) as behind:
        monkeypatch.setenv("http_proxy", behind.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        config = PredictorConfig("m-predictor.somewhere.invalid")
        async with serve(Transformer("m"), predictor=config) as front:
            answer = await front.predict({"instances": [1]})
    assert answer["predictions"] == [1]
    assert echo.requests[0][1]["host"] == "m-predictor.somewhere.invalid"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = trained.sklearn_classifier(tmp_path_factory.mktemp("model"))
    with serving("sklearn", folder, tmp_path_factory.mktemp("log") / "server.log") as one:
        yield one


def test_the_example_runs_as_a_script(predictor: Served, tmp_path: Path) -> None:
    http_port, grpc_port = free_ports(2)
    log = tmp_path / "log"
    command = [
        sys.executable, str(EXAMPLE), "--model_name=m", f"--http_port={http_port}",
        f"--grpc_port={grpc_port}", f"--predictor_host=127.0.0.1:{predictor.http_port}",
        "--unit=10", "--workers_of_no_kind=3",
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment(), stderr=output)
    try:
        _await_port(process, http_port, log)
        url = f"http://127.0.0.1:{http_port}/v1/models/m:predict"
        body = json.dumps({"instances": ["0.68 x 0.28, 0.48 x 0.14"]}).encode()
        with urllib.request.urlopen(url, body, timeout=30) as answer:
            assert json.load(answer) == {"predictions": ["versicolor"]}
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(log.read_text())
