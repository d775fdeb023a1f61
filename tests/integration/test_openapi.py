"""The server against its own OpenAPI document: what Schemathesis makes up is answered as it says.

`KEDGE_TEST_OPENAPI_EXAMPLES` is the number of requests per operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.integration.server_process import Served, serving

schemathesis = pytest.importorskip("schemathesis")
checks = schemathesis.checks

EXAMPLES = int(os.environ.get("KEDGE_TEST_OPENAPI_EXAMPLES", "5"))
MODEL = """
from kedge.server import InferRequest, InferResponse, Model

class Any(Model):
    def predict(self, payload, headers):
        if isinstance(payload, InferRequest):
            return InferResponse(self.name, payload.inputs)
        return {"predictions": [str(payload)]}

    def explain(self, payload, headers):
        return {"explanations": [str(payload)]}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("any")
    (folder / "model.py").write_text(MODEL)
    with serving("python", folder, folder / "log") as one:
        yield one
        log = (folder / "log").read_text()
        assert "Traceback" not in log, log


def test_every_answer_is_as_described(served: Served) -> None:
    """Most are asked of the model that is there."""
    described = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [one.ok() for one in described.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:
        ask(operation, served)


def ask(operation: Any, served: Served) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy())
    def one(case: Any) -> None:
        unload = case.path.endswith("/unload")
        if not unload and "name" in case.path_parameters and len(case.path_parameters["name"]) % 4:
            case.path_parameters["name"] = "m"
        answer = case.call(timeout=20)
        case.validate_response(
            answer,
            checks=[
                checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ],
        )
        assert answer.headers["x-request-id"]

    one()


def test_verbs(served: Served) -> None:
    """What a path does not offer is 405 with what it does; HEAD is GET without a body."""
    for path, allowed in (
        ("/v2/health/ready", {"GET", "HEAD"}),
        ("/v2/models/m", {"GET", "HEAD"}),
        ("/v1/models/m:predict", {"POST"}),
        ("/v2/models/m/infer", {"POST"}),
        ("/v2/repository/index", {"POST"}),
        ("/metrics", {"GET", "HEAD"}),
    ):
        for verb in ("DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"):
            status, headers, body = served.request(verb, path)
            assert status == 405, (verb, path)
            assert {one.strip() for one in headers["allow"].split(",")} == allowed, path
            assert b"error" in body
        if "GET" in allowed:
            status, headers, body = served.request("HEAD", path)
            assert (status, body) == (200, b"") and int(headers["content-length"]) > 0
