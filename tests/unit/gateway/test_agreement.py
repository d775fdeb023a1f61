"""Whether two answers say the same, and what is counted of them."""

from __future__ import annotations

import orjson
import pytest

from kedge.gateway.agreement import Answer, compare
from kedge.gateway.comparing import KEPT_ANSWERS, Comparer
from kedge.testing.clock import FakeClock


def make_json(value: object, *, status: str = "200", binary: bytes = b"") -> Answer:
    body = orjson.dumps(value)
    headers = {"content-type": "application/json"}
    if binary:
        headers["inference-header-content-length"] = str(len(body))
    return Answer(status, 0.001, headers, bytearray(body + binary))


def make_grpc(*messages: bytes, status: str = "0") -> Answer:
    body = b"".join(b"\0" + len(one).to_bytes(4, "big") + one for one in messages)
    return Answer(status, 0.001, {"content-type": "application/grpc"}, bytearray(body))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"predictions": [1, 2]}, {"predictions": [1, 2]}, "agree"),
        ({"predictions": [1, 2]}, {"predictions": [2, 1]}, "differ"),
        ({"predictions": [0.1 + 0.2]}, {"predictions": [0.3]}, "agree"),
        ({"predictions": [0.30001]}, {"predictions": [0.3]}, "differ"),
        ({"id": "a", "model_name": "x", "v": 1}, {"model_name": "y", "v": 1}, "agree"),
        ({"v": {"id": 1}}, {"v": {"id": 2}}, "differ"),
        ({"v": True}, {"v": 1}, "differ"),
        ([1, "a"], [1, "a", None], "differ"),
    ],
)  # fmt: skip
def test_json_is_compared_by_value(one: object, other: object, expected: str) -> None:
    assert compare(make_json(one), make_json(other)) == expected


def test_binary_tensors_are_compared_by_their_bytes() -> None:
    one = make_json({"model_name": "a"}, binary=b"\1\2")
    assert compare(one, make_json({"model_name": "bcd"}, binary=b"\1\2")) == "agree"
    assert compare(one, make_json({"model_name": "a"}, binary=b"\1\3")) == "differ"


def test_grpc_messages_are_compared_without_names() -> None:
    tensor = b"\x3a\x02\1\2"
    one = make_grpc(b"\x0a\x01a" + tensor, b"\x08\x05" + tensor)
    assert compare(one, make_grpc(b"\x0a\x02bc" + tensor, b"\x08\x07" + tensor)) == "agree"
    assert compare(one, make_grpc(b"\x0a\x01a" + tensor)) == "differ"
    assert compare(one, make_grpc(b"\x0a\x01a\x3a\x02\1\3", tensor)) == "differ"
    assert compare(make_grpc(b"\x0a\x7f"), make_grpc(b"\x0a\x7e")) == "differ"


def test_failures_and_what_is_too_large() -> None:
    assert compare(make_json({}), make_json({}, status="500")) == "status"
    cut = make_json({})
    cut.cut = True
    assert compare(make_json({}), cut) == "unknown"
    assert compare(Answer("200", body=bytearray(b"x")), Answer("200")) == "differ"


def test_answers_are_paired_and_those_alone_are_counted_too() -> None:
    clock = FakeClock()
    comparer = Comparer(clock)
    pair = ("default/iris", "default/next")
    comparer.note("1", make_json(1), service=pair[0])
    comparer.note("2", make_json(1), candidate=pair[1])
    comparer.note("2", make_json(2), service=pair[0])
    comparer.note("1", make_json(1), candidate=pair[1])
    found = comparer.comparisons[pair]
    assert found.results == {"agree": 1, "differ": 1}
    assert sum(found.service) == sum(found.candidate) == 2
    # Neither many nor old ones are kept.
    for number in range(KEPT_ANSWERS + 1):
        comparer.note(f"many-{number}", make_json(1), service=pair[0])
    alone = comparer.comparisons[pair[0], ""]
    assert alone.results == {"unanswered": 1}
    assert 'kedge_shadow_requests_total{service="default/iris",candidate="default/next"' in (
        comparer.format()
    )
