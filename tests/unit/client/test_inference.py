"""Where a service answers, and how its answers and refusals are told."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.client.conftest import FakeApi

from kedge.client.errors import InferenceError, Unreachable
from kedge.client.inference import InferenceClient, Target


def service(url: str = "", address: str = "") -> Any:
    return {
        "metadata": {"name": "iris", "namespace": "models"},
        "status": {"url": url, "address": {"url": address}},
    }


def test_the_path_form_is_preferred() -> None:
    target = Target.of(
        service("http://iris-models.localhost:8080", "http://127.0.0.1:8080/serving/models/iris")
    )
    assert target == Target(
        "http://127.0.0.1:8080/serving/models/iris",
        "127.0.0.1:8080",
        "iris-models.localhost",
        "models/iris",
    )
    assert target.model == "iris"


def test_a_host_is_sent_and_never_resolved() -> None:
    local = Target.of(service("http://iris-models.localhost:8080"))
    assert (local.url, local.host) == ("http://127.0.0.1:8080", "iris-models.localhost")
    inside = "http://iris.models.svc.cluster.local"
    outside = Target.of(service("https://iris.example.org", inside))
    assert (outside.gateway, outside.tls) == ("iris.example.org:443", True)
    forwarded = Target.of(service("http://iris.example.org", inside), "localhost:9000")
    assert (forwarded.url, forwarded.host) == ("http://localhost:9000", "iris.example.org")


def test_an_address_of_ipv6_stays_in_brackets() -> None:
    target = Target.of(service("http://[fd00::1]/serving/models/iris"))
    assert (target.url, target.gateway) == (
        "http://[fd00::1]:80/serving/models/iris",
        "[fd00::1]:80",
    )


def test_no_url_is_an_error_that_points_on() -> None:
    with pytest.raises(InferenceError, match=r"no URL yet.*kedge why iris"):
        Target.of(service())


@pytest.fixture
def target(api: FakeApi) -> Target:
    return Target(api.url, api.url.removeprefix("http://"), "iris.example", "models/iris")


async def test_v1_and_v2(api: FakeApi, target: Target) -> None:
    api.on("POST", "/v1/models/iris:predict", {"predictions": [1]})
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    api.on("GET", "/v2/models/iris", {"name": "iris", "inputs": inputs})
    api.on("POST", "/v2/models/iris/infer", {"outputs": []})
    async with InferenceClient(target) as client:
        assert await client.predict([[1, 2]]) == {"predictions": [1]}
        assert await client.predict([[1, 2]], "v2") == {"outputs": []}
    assert api.requests[0][3] == {"instances": [[1, 2]]}
    assert api.requests[-1][3]["inputs"][0]["datatype"] == "FP32"


async def test_a_refusal_tells_what_the_model_said(api: FakeApi, target: Target) -> None:
    api.on("POST", "/v1/models/iris:predict", {"error": "bad row"}, 400)
    async with InferenceClient(target) as client:
        with pytest.raises(InferenceError, match=r"models/iris/v1.* answered 400: bad row") as e:
            await client.predict([[1]])
        assert (e.value.code, e.value.body) == (400, {"error": "bad row"})


async def test_a_model_without_metadata_is_asked_by_shape(api: FakeApi, target: Target) -> None:
    api.on("POST", "/v2/models/iris/infer", {"outputs": []})
    async with InferenceClient(target) as client:
        await client.predict([[1, 2]], "v2")
    assert api.requests[-1][3]["inputs"][0]["name"] == "input-0"


async def test_no_gateway(unused_tcp_port: int) -> None:
    base = f"127.0.0.1:{unused_tcp_port}"
    async with InferenceClient(Target(f"http://{base}", base, "", "a/b")) as client:
        with pytest.raises(Unreachable, match="gateway does not answer"):
            await client.predict([[1]])
        with pytest.raises(InferenceError, match=r"UNAVAILABLE.*kedge status"):
            await client.predict({"inputs": [_TENSOR]}, "grpc")


_TENSOR = {"name": "x", "shape": [1], "datatype": "FP16", "data": [1.0]}
