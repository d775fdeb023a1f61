"""Nodes and GPUs of a model that is served over several nodes."""

from __future__ import annotations

import pytest

from kedge.controllers.inferenceservice.errors import InvalidWorkerSpec
from kedge.controllers.inferenceservice.multinode import Allocation, allocate


@pytest.mark.parametrize(
    ("backend", "tensor", "pipeline", "worker", "head", "expected"),
    [
        ("mp", 4, 2, 0, 0, Allocation(2, 4, 4)),
        ("", 2, 2, 2, 2, Allocation(2, 2, 2)),
        ("", 2, 2, 1, 1, Allocation(4, 1, 1)),
        ("", 2, 2, 3, 0, Allocation(2, 1, 3)),
        ("", 1, 4, 2, 4, Allocation(1, 4, 0)),
        ("", 1, 2, 4, 0, Allocation(1, 2, 0)),
        ("", 2, 3, 0, 2, Allocation(5, 2, 1)),
        ("ray", 1, 3, 0, 0, Allocation(3, 1, 1)),
    ],
)
def test_allocation(
    backend: str, tensor: int, pipeline: int, worker: int, head: int, expected: Allocation
) -> None:
    assert allocate(backend, tensor, pipeline, worker, head) == expected


def test_gpus_that_do_not_add_up() -> None:
    with pytest.raises(InvalidWorkerSpec, match="6 GPUs are needed") as raised:
        allocate("", 2, 3, 3, 1)
    assert raised.value.reason == "InvalidGPUAllocation"
