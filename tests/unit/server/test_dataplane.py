"""The data plane: steps, errors and figures, whatever the transport."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from tests.unit.server.models import Broken, BrokenArrays, Doubler, Echo, Steps, WrongAnswer

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import (
    InferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    Unsupported,
)
from kedge.protocol.inference import InferRequest, InferResponse, RequestedOutput
from kedge.protocol.v1 import Rows
from kedge.server.dataplane import DataPlane
from kedge.server.log import RequestLog
from kedge.server.metrics import Metrics
from kedge.server.model import Headers, Model
from kedge.server.repository import Entry, Repository


async def start(*models: Model) -> DataPlane:
    repository = Repository(Metrics())
    for model in models:
        await repository.start(model)
    return DataPlane(repository)


async def run(plane: DataPlane, entry: Entry, payload: Any) -> Any:
    outcome = plane.run(entry, payload, "", {"user-agent": "test"})
    return await outcome if inspect.isawaitable(outcome) else outcome


def numbers(outputs: list[str] | None = None) -> InferRequest:
    request = InferRequest.from_json("m", {"x": ("FP64", [1, 2], [1, 2])})
    request.id = "7"
    if outputs is not None:
        request.outputs = [RequestedOutput(name) for name in outputs]
    return request


async def test_a_quick_array_model_answers_without_a_coroutine() -> None:
    plane = await start(Doubler("m"))
    outcome = plane.run(plane.find("m", ""), numbers(), "")
    assert isinstance(outcome, InferResponse)
    assert outcome.id == "7"
    assert outcome.output("output-0").array.tolist() == [[2, 4]]


async def test_outputs_are_chosen_by_name_in_the_order_asked() -> None:
    plane = await start(Doubler("m"))
    answer = await run(plane, plane.find("m", ""), numbers(["again", "output-0"]))
    assert [one.name for one in answer.outputs] == ["again", "output-0"]
    with pytest.raises(InvalidInput, match="Unexpected inference output 'no' for model 'm'"):
        await run(plane, plane.find("m", ""), numbers(["no"]))


async def test_steps_follow_each_other_sync_or_not() -> None:
    plane = await start(Steps("m"))
    answer = await run(plane, plane.find("m", ""), {"instances": ["in"]})
    assert answer == {"predictions": ["in", "pre", "predict", "post"]}


async def test_a_model_sees_headers_and_explains() -> None:
    plane = await start(Echo("m"))
    entry = plane.find("m", "")
    assert (await run(plane, entry, {"instances": [1]}))["agent"] == "test"
    assert await plane.answer(entry, "explain", {"instances": [1]}, "", {}) == {"explanations": [1]}


async def test_infer_answers_carry_the_request_s_id_and_only_its_outputs() -> None:
    plane = await start(Echo("m"))
    answer = await run(plane, plane.find("m", ""), numbers(["x"]))
    assert answer.id == "7"
    with pytest.raises(InvalidInput, match="Unexpected inference output 'y'"):
        await run(plane, plane.find("m", ""), numbers(["y"]))


@pytest.mark.parametrize("model", [Broken("m"), BrokenArrays("m")])
async def test_what_a_model_raises_is_named_and_not_told(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    plane = await start(model)
    model.ready = True
    payload = {"instances": [[1, 2]]}
    with pytest.raises(InferenceError) as caught:
        await run(plane, plane.find("m", ""), payload)
    assert "Model m failed" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "the secret is 42" in caplog.text


async def test_an_answer_that_open_inference_cannot_carry() -> None:
    plane = await start(WrongAnswer("m"))
    with pytest.raises(InferenceError, match="Model m gave an answer that Open Inference"):
        await run(plane, plane.find("m", ""), numbers())


async def test_what_a_model_does_not_offer() -> None:
    plane = await start(Model("m"))
    entry = plane.find("m", "")
    with pytest.raises(Unsupported, match="does not predict"):
        await run(plane, entry, {})
    with pytest.raises(Unsupported, match="does not explain"):
        await plane.answer(entry, "explain", {}, "", {})


async def test_unknown_and_unready_models() -> None:
    plane = await start(Doubler("m"))
    with pytest.raises(ModelNotFound, match="Model with name n does not exist"):
        plane.find("n", "")
    with pytest.raises(ModelNotFound, match="has no version 2"):
        plane.find("m", "2")
    plane.repository.find("m").model.ready = False
    with pytest.raises(ModelNotReady, match="Model with name m is not ready"):
        plane.find("m", "")
    assert not plane.ready()


async def test_wide_requests_go_to_the_thread() -> None:
    plane = await start(Doubler("m"))
    entry = plane.find("m", "")
    entry.pace.rows = 3
    outcome = plane.run(entry, {"instances": [[1, 2]] * 4}, "")
    assert inspect.isawaitable(outcome)
    assert (await outcome)["predictions"].tolist() == [[2, 4]] * 4
    entry.worker.stop()


async def test_columns_by_name_need_no_parameter() -> None:
    class Named(Doubler):
        def columns(self) -> list[str]:
            return ["a", "b"]

    plane = await start(Named("m"))
    request = InferRequest.from_json("m", {"b": ("FP64", [2], [3, 4]), "a": ("FP64", [2], [1, 2])})
    answer = await run(plane, plane.find("m", ""), request)
    assert answer.output("output-0").array.tolist() == [[2, 6], [4, 8]]
    request = InferRequest.from_json("m", {"a": ("FP64", [2], [3, 4]), "c": ("FP64", [2], [1, 2])})
    with pytest.raises(InvalidInput, match="takes one input tensor, but the request has 2"):
        await run(plane, plane.find("m", ""), request)
    request.parameters["content_type"] = "pd"
    with pytest.raises(InvalidInput, match="columns that the request lacks: b"):
        await run(plane, plane.find("m", ""), request)


async def test_figures_and_log_lines() -> None:
    lines: list[bytes] = []
    repository = Repository(metrics := Metrics())
    await repository.start(Doubler("m"))
    log = RequestLog(lines.append)
    plane = DataPlane(repository, log=log)
    await run(plane, plane.find("m", ""), numbers())
    log.flush()
    assert b"kedge.trace requestId: N.A., preprocess_ms: " in lines[0]
    page, content_type = metrics.exposition("")
    assert b'request_predict_seconds_count{model_name="m"} 1.0' in page
    assert b'model_load_seconds{model_name="m"}' in page
    assert content_type.startswith("text/plain")
    page, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


async def test_a_model_replaced_and_unloaded() -> None:
    made: list[Doubler] = []

    def loader(name: str) -> Model:
        made.append(Doubler(name))
        return made[-1]

    repository = Repository(Metrics(), loader)
    await repository.load("m")
    await repository.load("m")
    assert [model.ready for model in made] == [False, True]
    assert repository.index() == [{"name": "m", "state": "READY", "reason": ""}]
    await repository.unload("m")
    assert repository.index() == [{"name": "m", "state": "UNAVAILABLE", "reason": "unloaded"}]
    assert repository.index(only_ready=True) == []
    with pytest.raises(ModelNotFound):
        repository.find("m")


async def test_text_labels_travel_as_bytes() -> None:
    class Labels(Doubler):
        def compute(self, rows: Any, outputs: tuple[str, ...]) -> Any:
            return {name: np.array(["setosa"]) for name in outputs}

    plane = await start(Labels("m"))
    answer = await run(plane, plane.find("m", ""), numbers())
    assert answer.outputs[0].datatype == "BYTES"
    assert await run(plane, plane.find("m", ""), {"instances": [[1, 2]]}) == {
        "predictions": ["setosa"]
    }


class Raising(Model):
    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(name)
        self.error = error

    def predict(self, payload: Any, headers: Headers) -> Any:
        raise self.error


class RaisingArrays(Doubler):
    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(name)
        self.error = error

    def warm_up(self) -> Any:
        return None

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        raise self.error


@pytest.mark.parametrize("kind", [Raising, RaisingArrays])
@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "Model m ran out of memory while answering. Fix: Send fewer rows at once"),
        (SystemExit(3), "Model m failed while answering"),
        (asyncio.CancelledError(), "Model m failed while answering"),
        (StopIteration(), "Model m failed while answering"),
        (RecursionError(), "Model m failed while answering"),
    ],
)
async def test_whatever_a_model_raises_is_told_as_its_failure(
    kind: type[Any], inline: bool, error: BaseException, told: str
) -> None:
    plane = DataPlane(Repository(Metrics()))
    entry = await plane.repository.start(kind("m", error))
    entry.pace.inline = inline
    with pytest.raises(InferenceError, match=told):
        await run(plane, entry, {"instances": [[1, 2]]})
    assert entry.metrics.in_flight == 0
    entry.stop()
