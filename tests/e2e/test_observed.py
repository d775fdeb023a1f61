"""What a service asks by its spec to be told of: payloads and traces, through the gateway."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.running import RunningKedge
from tests.e2e.test_ready import ROWS, manifest
from tests.integration.receiver import Receiver, receiving

NAME = "observed"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture
def applied(kedge: RunningKedge, iris: Path, receiver: Receiver) -> Iterator[RunningKedge]:
    service = manifest(NAME, iris)
    service["metadata"]["annotations"] = {"team": "a, b"}
    predictor = service["spec"]["predictor"]
    predictor["logger"] = {
        "mode": "all",
        "url": f"{receiver.url}/events",
        "metadataHeaders": ["X-User"],
        "metadataAnnotations": ["team"],
    }
    predictor["batcher"] = {"maxBatchSize": 8}
    predictor["containerConcurrency"] = 2
    predictor["timeout"] = 20
    env = [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": receiver.url}]
    predictor["model"]["env"] = [*env, {"name": "OTEL_BSP_SCHEDULE_DELAY", "value": "50"}]
    kedge.apply(service)
    kedge.until_ready(NAME)
    yield kedge
    kedge.delete(NAME)


def predict(kedge: RunningKedge) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{kedge.port}/serving/default/{NAME}/v1/models/{NAME}:predict",
        data=json.dumps({"instances": ROWS}).encode(),
        headers={"content-type": "application/json", "x-user": "me"},
    )
    return urllib.request.urlopen(request, timeout=30)


def test_payloads_and_traces_of_a_service(applied: RunningKedge, receiver: Receiver) -> None:
    with predict(applied) as answer:
        assert json.loads(answer.read()) == {"predictions": [1, 1]}
        request_id = answer.headers["x-request-id"]
    receiver.wait_for(3)
    events = [one for one in receiver.got if one.path == "/events"]
    assert len(events) == 2
    for event in events:
        assert event.headers["ce-inferenceservicename"] == NAME
        assert event.headers["ce-namespace"] == "default"
        assert event.headers["ce-component"] == "predictor"
        assert event.headers["ce-source"].startswith(f"{NAME}-predictor-")
        assert event.headers["ce-requestid"] == request_id
        assert json.loads(event.headers["ce-metadata"]) == {"x-user": ["me"]}
        assert json.loads(event.headers["ce-annotations"]) == {"team": "a, b"}
    assert {one.path for one in receiver.got} == {"/events", "/v1/traces"}
