"""Clients that others wrote, unmodified. Each runs in a process of its own: their packages
register the same message names and exclude each other."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration import trained
from tests.integration.server_process import Served, environment, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = trained.sklearn_labels(tmp_path_factory.mktemp("model"))
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving("sklearn", folder, log) as one:
        yield one


def run(script: str, *arguments: str) -> Any:
    """The JSON that `script` prints last."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *arguments],
        env=environment(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout.decode().splitlines()[-1])


TRITON = """
    import json, sys
    import numpy as np
    import tritonclient.{transport} as triton
    from tritonclient.utils import InferenceServerException

    client = triton.InferenceServerClient(sys.argv[1])
    rows = np.array({rows}, dtype=np.float32)
    given = triton.InferInput("input-0", list(rows.shape), "FP32")
    seen = {{
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready("m"),
        "unknown": None,
        "answers": [],
    }}
    for binary in {binary}:
        given.set_data_from_numpy(rows, **binary)
        wanted = [triton.InferRequestedOutput(name) for name in ("output-0", "predict_proba")]
        answer = client.infer("m", [given], outputs=wanted, request_id="7")
        labels = answer.as_numpy("output-0").tolist()
        shape = list(answer.as_numpy("predict_proba").shape)
        seen["answers"].append([[label.decode() for label in labels], shape])
    for compression in ("gzip", "deflate"):
        client.infer("m", [given], **{{"{compression}": compression}})
    try:
        client.infer("no", [given])
    except InferenceServerException as error:
        seen["unknown"] = [error.status(), error.message()]
    try:
        client.infer("m", [given], outputs=[triton.InferRequestedOutput("no")])
    except InferenceServerException as error:
        seen["output"] = error.message()
    client.unload_model("m")
    seen["unloaded"] = client.is_model_ready("m") if "{transport}" == "http" else False
    client.load_model("m")
    seen["loaded"] = client.is_model_ready("m")
    index = client.get_model_repository_index()
    seen["index"] = [one["name"] for one in index] if "{transport}" == "http" else [
        one.name for one in index.models
    ]
    print(json.dumps(seen))
"""


def check_triton(seen: dict[str, Any], answers: int) -> None:
    assert (seen["live"], seen["ready"], seen["model"]) == (True, True, True)
    assert seen["answers"] == [[["versicolor", "versicolor"], [2, 3]]] * answers
    assert seen["unknown"][1] == "Model with name no does not exist."
    assert "Unexpected inference output 'no'" in seen["output"]
    assert (seen["unloaded"], seen["loaded"], seen["index"]) == (False, True, ["m"])


def test_triton_http(served: Served) -> None:
    script = TRITON.format(
        transport="http",
        rows=trained.ROWS,
        binary=[{"binary_data": True}, {"binary_data": False}],
        compression="request_compression_algorithm",
    )
    check_triton(run(script, f"127.0.0.1:{served.http_port}"), 2)


def test_triton_grpc(served: Served) -> None:
    script = TRITON.format(
        transport="grpc", rows=trained.ROWS, binary=[{}], compression="compression_algorithm"
    )
    seen = run(script, served.grpc)
    check_triton(seen, 1)
    assert seen["unknown"][0] == "StatusCode.NOT_FOUND"


KSERVE = """
    import asyncio, json, sys
    import numpy as np
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
    from kserve import RESTConfig
    import kedge.protocol.open_inference.messages  # Both register their messages; neither minds.

    async def main():
        url, target = sys.argv[1:3]
        rows = np.array(%s, dtype=np.float32)
        given = InferInput("input-0", list(rows.shape), "FP32")
        given.set_data_from_numpy(rows, binary_data=False)
        seen = {}
        one = InferenceRESTClient(RESTConfig(protocol="v1"))
        answer = await one.infer(url, {"instances": rows.tolist()}, model_name="m")
        seen["v1"] = answer["predictions"]
        seen["v1_up"] = [await one.is_server_live(url), await one.is_model_ready(url, "m")]
        two = InferenceRESTClient(RESTConfig(protocol="v2"))
        seen["v2_up"] = [
            await two.is_server_live(url),
            await two.is_server_ready(url),
            await two.is_model_ready(url, "m"),
            await two.is_model_ready(url, "no"),
        ]
        answer = await two.infer(url, InferRequest("m", [given], request_id="7"), model_name="m")
        seen["v2"] = [answer.id, answer.outputs[0].data]
        given.set_data_from_numpy(rows, binary_data=True)
        answer = await two.infer(url, InferRequest("m", [given]), model_name="m")
        seen["binary"] = answer.outputs[0].data
        try:
            await two.infer(url, InferRequest("no", [given]), model_name="no")
        except Exception as error:
            seen["error"] = str(error)
        client = InferenceGRPCClient(target)
        seen["grpc_up"] = [
            await client.is_server_live(),
            await client.is_server_ready(),
            await client.is_model_ready("m"),
        ]
        given.set_data_from_numpy(rows, binary_data=False)
        answer = await client.infer(InferRequest("m", [given]))
        seen["grpc"] = [str(one, "utf-8") if isinstance(one, bytes) else one
                        for one in answer.outputs[0].as_numpy().tolist()]
        print(json.dumps(seen))

    asyncio.run(main())
"""


def test_kserve(served: Served) -> None:
    seen = run(KSERVE % trained.ROWS, served.url, served.grpc)
    labels = ["versicolor", "versicolor"]
    assert (seen["v1"], seen["v2"], seen["binary"]) == (labels, ["7", labels], labels)
    assert seen["grpc"] == labels
    assert seen["v1_up"] == [True, True]
    assert seen["v2_up"] == [True, True, True, False]
    assert seen["grpc_up"] == [True, True, True]
    assert "Model with name no does not exist." in seen["error"]


def test_curl_needs_no_header(served: Served, tmp_path: Path) -> None:
    """`curl -d` declares a form; the body is JSON all the same."""
    body = json.dumps({"instances": trained.ROWS}).encode()
    for kind in ("application/x-www-form-urlencoded", "application/json; charset=utf-8", ""):
        headers = {"content_type": kind} if kind else {}
        status, _, answer = served.request("POST", "/v1/models/m:predict", body, **headers)
        assert (status, json.loads(answer)) == (200, {"predictions": ["versicolor", "versicolor"]})
