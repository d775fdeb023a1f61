"""Kubernetes' protobuf, against bytes that real clients sent and against garbage."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.cluster.errors import BadRequest
from kedge.cluster.local.http.wire import MAGIC, decode


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, message: bytes) -> bytes:
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, message)


def entry(key: str, value: bytes | str) -> bytes:
    return field(1, key) + field(2, value)


def test_a_config_map() -> None:
    metadata = (
        field(1, "a") + field(2, "") + field(3, "default") + field(7, 0) + field(8, b"")
        + field(11, entry("app", "web"))
    )  # fmt: skip
    message = field(1, metadata) + field(2, entry("k", "v")) + field(3, entry("b", b"\x00\xff"))
    assert decode(envelope("v1", "ConfigMap", message)) == {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "default", "labels": {"app": "web"}},
        "data": {"k": "v"}, "binaryData": {"b": "AP8="},
    }  # fmt: skip


def test_zero_is_kept_where_it_means_something() -> None:
    """`replicas: 0` was written by somebody, `minReadySeconds: 0` by nobody."""
    deployment = envelope("apps/v1", "Deployment", field(2, field(1, 0) + field(5, 0)))
    assert decode(deployment)["spec"] == {"replicas": 0}


def test_inlined_mixed_and_nested_values() -> None:
    volume = field(1, "v") + field(2, field(2, b""))  # VolumeSource.emptyDir, inlined
    probe = field(1, field(2, field(1, "/") + field(2, field(1, 1) + field(3, "http"))))
    limits = field(8, field(1, entry("cpu", field(1, "500m"))))
    container = field(1, "c") + limits + field(11, probe) + field(6, field(3, 80))
    pod = envelope("v1", "Pod", field(2, field(1, volume) + field(2, container)))
    spec = decode(pod)["spec"]
    assert spec["volumes"] == [{"name": "v", "emptyDir": {}}]
    (made,) = spec["containers"]
    assert made["resources"] == {"limits": {"cpu": "500m"}}
    assert made["readinessProbe"]["httpGet"] == {"path": "/", "port": "http"}
    assert made["ports"] == [{"containerPort": 80}]


def test_times_and_negative_numbers() -> None:
    moment, finer = field(1, 60), field(1, 60) + field(2, 5000)
    lease = envelope("coordination.k8s.io/v1", "Lease", field(2, field(3, moment)))
    assert decode(lease)["spec"]["acquireTime"] == "1970-01-01T00:01:00Z"
    event = decode(envelope("v1", "Event", field(6, moment) + field(10, finer)))
    assert event["firstTimestamp"] == "1970-01-01T00:01:00Z"
    assert event["eventTime"] == "1970-01-01T00:01:00.000005Z"
    options = envelope("apps/v1", "DeleteOptions", field(1, -1) + field(4, "Foreground"))
    assert decode(options) == {
        "apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": -1,
        "propagationPolicy": "Foreground",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        MAGIC,
        envelope("v1", "Unheard", b""),
        envelope("v1", "Pod", b"\x0a\xff"),
        envelope("v1", "Pod", field(2, 5)),
        envelope("v1", "ConfigMap", field(2, entry("k", b"\xff\xfe"))),
        MAGIC + b"\x0a",
        MAGIC + b"\xff" * 20,
    ],
)
def test_what_cannot_be_read(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(body)


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else(body: bytes) -> None:
    with contextlib.suppress(BadRequest):
        decode(envelope("v1", "Pod", body))
    with contextlib.suppress(BadRequest):
        decode(MAGIC + body)
