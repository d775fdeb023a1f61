"""A model is replaced, and unloaded, while 64 clients ask."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from tests.integration import trained
from tests.integration.memory import Peak, proportional_bytes
from tests.integration.server_process import Served, serving

from kedge.protocol.open_inference import messages

REST_CLIENTS, GRPC_CLIENTS = 48, 16
WEIGHT_BYTES = 96 << 20
MANY_FAILURES = 1000

HEAVY = """
import numpy as np

inputs = [("x", "FP64", [-1, 1])]
outputs = [("version", "INT64", [-1])]
independent_rows = True
weights = np.full({size} // 8, {version}, dtype=np.int64)

def predict(rows):
    return {{"version": np.full(len(rows), weights[-1])}}
"""


def write_version(folder: Path, version: int) -> None:
    """A model of which every byte says the version."""
    (folder / str(version)).mkdir(parents=True)
    text = HEAVY.format(size=WEIGHT_BYTES, version=version)
    (folder / str(version) / "model.py").write_text(text)


@dataclass
class Answers:
    """What clients were told.

    Attributes:
        seen: begun, ended, the version that the answer names, the version that computed it.
    """

    seen: list[tuple[float, float, str, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def count(self, since: float = 0.0) -> Counter[str]:
        return Counter(named for begun, _, named, _ in self.seen if begun >= since)


async def rest_client(served: Served, answers: Answers) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [1, 2]}
    body = json.dumps({"inputs": [tensor]}).encode()
    async with aiohttp.ClientSession(served.url) as session:
        while True:
            begun = time.perf_counter()
            try:
                async with session.post("/v2/models/m/infer", data=body) as response:
                    answer = await response.json()
                    assert response.status == 200, answer
            except (aiohttp.ClientError, AssertionError) as error:
                answers.failures.append(repr(error))
                continue
            (one, other) = answer["outputs"][0]["data"]
            assert one == other
            ended = time.perf_counter()
            answers.seen.append((begun, ended, answer["model_version"], one))


async def grpc_client(served: Served, answers: Answers) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 1]}
    request = messages.ModelInferRequest(model_name="m", inputs=[tensor])
    request.inputs[0].contents.fp64_contents.append(1.0)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(served.grpc, options=options) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        while True:
            begun = time.perf_counter()
            try:
                answer = await infer(request, timeout=30)
            except grpc.aio.AioRpcError as error:
                answers.failures.append(repr(error))
                continue
            (computed,) = answer.outputs[0].contents.int64_contents
            answers.seen.append((begun, time.perf_counter(), answer.model_version, computed))


async def under_load(
    served: Served, answers: Answers, change: Callable[[], Awaitable[None]]
) -> None:
    """Changes something while 64 clients ask."""
    clients = [asyncio.create_task(rest_client(served, answers)) for _ in range(REST_CLIENTS)]
    clients += [asyncio.create_task(grpc_client(served, answers)) for _ in range(GRPC_CLIENTS)]
    try:
        await change()
    finally:
        for client in clients:
            client.cancel()
        for client in clients:
            with suppress(asyncio.CancelledError):
                await client


async def more(answers: Answers, count: int) -> None:
    wanted = len(answers.seen) + count
    while len(answers.seen) < wanted and len(answers.failures) < MANY_FAILURES:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def ask(served: Served, verb: str) -> None:
    url = f"{served.url}/v2/repository/models/m/{verb}"
    async with aiohttp.ClientSession() as session, session.post(url, data=b"{}") as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_model_is_replaced_under_64_clients(tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "models" / "m"
    write_version(folder, 1)
    answers = Answers()
    acknowledged: dict[str, float] = {}
    with serving("python", folder.parent, tmp_path / "log", f"--workers={workers}") as served:
        pid = served.process.pid

        async def replace_twice() -> None:
            await more(answers, 2000)
            for version in (2, 3):
                write_version(folder, version)
                await ask(served, "load")
                acknowledged[str(version)] = time.perf_counter()
                await more(answers, 2000)

        one = await asyncio.to_thread(proportional_bytes, pid)
        with Peak(pid) as peak:
            await under_load(served, answers, replace_twice)
        await asyncio.sleep(0.5)
        after_swap = await asyncio.to_thread(proportional_bytes, pid)
        joined = batches(served)
        await ask(served, "unload")
        await asyncio.sleep(0.5)
        after_unload = await asyncio.to_thread(proportional_bytes, pid)
    late = {
        version: sum(1 for _, ended, named, _ in answers.seen if ended > at and named < version)
        for version, at in acknowledged.items()
    }
    print(
        f"\n{workers} workers, 64 clients: {len(answers.seen)} answers, "
        f"{len(answers.failures)} failures, by version {dict(answers.count())}; "
        f"received late {late}; {joined[0]:.0f} requests in {joined[1]:.0f} batches; MiB: "
        f"one version {one >> 20}, at most {peak.bytes >> 20}, after the swaps {after_swap >> 20}, "
        f"after unload {after_unload >> 20}"
    )
    assert answers.failures == []
    assert {named for *_, named, computed in answers.seen if named != str(computed)} == set()
    for version, at in acknowledged.items():
        assert {named for named in answers.count(since=at) if named < version} == set()
    assert set(answers.count()) == {"1", "2", "3"}
    assert joined[0] > joined[1]
    weights = workers * WEIGHT_BYTES
    assert peak.bytes > one + weights * 0.9
    assert after_swap < one + weights * 0.5
    assert after_unload < one - weights * 0.7


def batches(served: Served) -> tuple[float, float]:
    """How many requests were computed in how many batches."""
    _, _, page = served.request("GET", "/metrics")
    found = {}
    for line in page.decode().splitlines():
        name, _, value = line.rpartition(" ")
        found[name] = value
    name = 'model_batch_requests_{}{{model_name="m"}}'
    return float(found[name.format("sum")]), float(found[name.format("count")])


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_model_is_unloaded_under_64_clients(tmp_path: Path, workers: int) -> None:
    """Before, it answers; after, it is not there; nothing else happens."""
    folder = tmp_path / "models" / "m"
    write_version(folder, 1)
    answers = Answers()
    with serving("python", folder.parent, tmp_path / "log", f"--workers={workers}") as served:

        async def unload() -> None:
            await more(answers, 500)
            await ask(served, "unload")
            at = time.perf_counter()
            await asyncio.sleep(0.3)
            assert answers.count(since=at) == Counter()

        await under_load(served, answers, unload)
    assert answers.failures
    assert [one for one in answers.failures if "does not exist" not in one] == []


def forest(folder: Path) -> Path:
    """Many small pieces of memory."""
    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier

    generator = np.random.default_rng(0)
    features = generator.normal(size=(4000, 4))
    model = RandomForestClassifier(100, n_jobs=1, random_state=0)
    joblib.dump(model.fit(features, generator.integers(0, 8, 4000)), folder / "model.joblib")
    return folder


async def test_an_unloaded_forest_gives_its_memory_back(tmp_path: Path) -> None:
    for name in ("iris", "m"):
        (tmp_path / "models" / name).mkdir(parents=True)
    trained.sklearn_classifier(tmp_path / "models" / "iris")
    forest(tmp_path / "models" / "m")
    with serving("sklearn", tmp_path / "models", tmp_path / "log") as served:
        pid = served.process.pid
        found = [proportional_bytes(pid)]
        for verb in ("unload", "load", "unload"):
            await ask(served, verb)
            await asyncio.sleep(0.5)
            found.append(proportional_bytes(pid))
    both, without, again, at_last = found
    print("\nforest, MiB: loaded {}, unloaded {}, loaded {}, unloaded {}".format(
        *(size >> 20 for size in found)
    ))  # fmt: skip
    assert both - without > 0.8 * (again - without)
    assert at_last - without < 0.2 * (again - without)
