"""What Envoy is told when a request may go to a pod."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages

from kedge.gateway.activation import NAMESPACE
from kedge.gateway.asking import AskingServer
from kedge.gateway.ir import Endpoint


class Nobody:
    """An activator that knows no service."""

    def find(self, cluster: str) -> None:
        return None


@pytest.mark.parametrize(
    ("address", "told"), [("10.0.0.1", "10.0.0.1:8080"), ("fd00::1", "[fd00::1]:8080")]
)
def test_the_place_is_an_address_as_envoy_reads_it(address: str, told: str) -> None:
    asking: Any = AskingServer(Nobody(), "a")  # type: ignore[arg-type]  # only `find` is asked
    answer = messages.ProcessingResponse.FromString(
        asking._place("default/iris/80", Endpoint(address, 8080))
    )
    assert answer.dynamic_metadata[NAMESPACE]["address"] == told
