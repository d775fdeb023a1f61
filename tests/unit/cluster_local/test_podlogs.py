"""Pod logs from the node agent's files."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cluster_local.local_objects import make_pod

from kedge.cluster.base import Object
from kedge.cluster.errors import BadRequest
from kedge.cluster.local.podlogs import LogOptions, PodLogs
from kedge.testing.clock import FakeClock

RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
ENDED = {"terminated": {"exitCode": 0}}


def pod_with(state: dict[str, Any], restarts: int = 0, **spec: Any) -> Object:
    pod = make_pod(**spec)
    pod["metadata"]["uid"] = "u"
    status = {"name": "c", "restartCount": restarts, "state": state}
    pod["status"] = {"containerStatuses": [status]}
    return pod


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "u" / "logs" / "c" / "0.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one\ntwo\nthree\n")
    return path


async def read(folder: Path, pod: Object, **options: Any) -> bytes:
    logs = PodLogs(folder, clock=FakeClock())
    pieces = logs.open(pod, lambda: pod, LogOptions(**options))
    return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, b"one\ntwo\nthree\n"),
        ({"tail": 2}, b"two\nthree\n"),
        ({"tail": 9}, b"one\ntwo\nthree\n"),
        ({"tail": 0}, b""),
        ({"limit": 5}, b"one\nt"),
        ({"since": datetime(2100, 1, 1, tzinfo=UTC)}, b""),
        ({"since": datetime(2000, 1, 1, tzinfo=UTC)}, b"one\ntwo\nthree\n"),
        ({"container": "c"}, b"one\ntwo\nthree\n"),
    ],
)
async def test_what_is_read(log: Path, tmp_path: Path, options: Any, text: bytes) -> None:
    assert await read(tmp_path, pod_with(RUNNING), **options) == text


async def test_an_unfinished_line_is_shown(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"one\ntwo")
    assert await read(tmp_path, pod_with(ENDED)) == b"one\ntwo"
    assert await read(tmp_path, pod_with(ENDED), tail=1) == b"two"


async def test_the_tail_of_a_long_log(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)))
    tail = await read(tmp_path, pod_with(RUNNING), tail=20_000)
    assert tail.startswith(b"line 80000\n")
    assert tail.count(b"\n") == 20_000


async def test_times_before_each_line(log: Path, tmp_path: Path) -> None:
    os.utime(log, (0, 0))
    stamped = await read(tmp_path, pod_with(RUNNING), timestamps=True, tail=2)
    assert stamped == b"1970-01-01T00:00:00.000000Z two\n1970-01-01T00:00:00.000000Z three\n"


async def test_the_run_before_the_restart(log: Path, tmp_path: Path) -> None:
    log.with_name("1.log").write_text("again\n")
    pod = pod_with(RUNNING, restarts=1)
    assert await read(tmp_path, pod) == b"again\n"
    assert await read(tmp_path, pod, previous=True) == b"one\ntwo\nthree\n"
    with pytest.raises(BadRequest, match="previous terminated"):
        await read(tmp_path, pod_with(RUNNING), previous=True)


async def test_between_two_runs_the_last_one_is_shown(log: Path, tmp_path: Path) -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert await read(tmp_path, pod_with(waiting)) == b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("state", "spec", "options", "message"),
    [
        (RUNNING, {}, {"container": "other"}, "container other is not valid"),
        ({"waiting": {"reason": "ErrImagePull"}}, {}, {}, "waiting to start: ErrImagePull"),
        (RUNNING, {"initContainers": [{"name": "i", "image": "x"}]}, {}, "must be specified"),
    ],
)
async def test_what_cannot_be_read(
    tmp_path: Path, state: Any, spec: Any, options: Any, message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        await read(tmp_path, pod_with(state, **spec), **options)


async def test_the_default_container_of_many(log: Path, tmp_path: Path) -> None:
    pod = pod_with(RUNNING, initContainers=[{"name": "i", "image": "x"}])
    pod["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "c"}
    assert await read(tmp_path, pod, tail=1) == b"three\n"


async def test_following_ends_with_the_container(log: Path, tmp_path: Path) -> None:
    clock = FakeClock()
    pod = pod_with(RUNNING)
    seen = bytearray()

    async def follow() -> None:
        options = LogOptions(follow=True, tail=1)
        async for piece in PodLogs(tmp_path, clock=clock).open(pod, lambda: pod, options):
            seen.extend(piece)

    task = asyncio.create_task(follow())
    await clock.advance(1)
    assert seen == b"three\n"
    with log.open("ab") as file:
        file.write(b"four\nfi")
    await clock.advance(1)
    assert seen == b"three\nfour\n"
    log.write_bytes(b"rotated\n")
    await clock.advance(1)
    assert bytes(seen).endswith(b"rotated\n")
    pod["status"] = pod_with(ENDED)["status"]
    await clock.advance(1)
    assert task.done()
