"""A pod's log, read from the files that the node agent writes.

`{pods}/{uid}/logs/{container}/{restart count}.log` holds what the container wrote, as it wrote it,
without times. Asked for times, or for lines since a time, this module goes by when the file was
last written.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from kedge.cluster.base import Object
from kedge.cluster.errors import BadRequest
from kedge.lib.clock import SYSTEM_CLOCK, Clock

_BLOCK = 1 << 16
_POLL_SECONDS = 0.1

ReadPod = Callable[[], Object | None]


@dataclass(frozen=True)
class LogOptions:
    """What of a log is wanted.

    Attributes:
        container: which container; may be None for a pod with only one.
        previous: of the run before the last restart.
        tail: only so many last lines.
        since: only if written after that time.
        limit: at most so many bytes.
        timestamps: a time before each line.
    """

    container: str | None = None
    follow: bool = False
    previous: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit: int | None = None
    timestamps: bool = False


class PodLogs:
    """Reads the logs of pods on this machine.

    Args:
        pods_dir: the node agent's folder of pods; None when no pod ever runs here.
    """

    def __init__(self, pods_dir: Path | None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._pods_dir = pods_dir
        self._clock = clock

    def open(self, pod: Object, read_pod: ReadPod, options: LogOptions) -> AsyncIterator[bytes]:
        """The log in pieces of whole lines (the last one may be unfinished).

        Raises:
            BadRequest: there is no such container, or it has not started.
        """
        container = _container_name(pod, options.container)
        attempt = _attempt(pod, container, options.previous)
        if self._pods_dir is None:
            raise BadRequest("no pod runs in this cluster: it has no node agent")
        folder = self._pods_dir / pod["metadata"]["uid"] / "logs" / container
        path = folder / f"{attempt}.log"

        def ended() -> bool:
            found = read_pod()
            if found is None or found["metadata"]["uid"] != pod["metadata"]["uid"]:
                return True
            status = _status(found, container) or {}
            return status.get("restartCount", 0) > attempt or "terminated" in (
                status.get("state") or {}
            )

        return _limited(self._read(path, options, ended), options.limit)

    async def _read(
        self, path: Path, options: LogOptions, ended: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        while not path.exists():
            if not options.follow or ended():
                return
            await self._clock.sleep(_POLL_SECONDS)
        with path.open("rb") as file:
            if options.since is not None and _written(file) < options.since:
                file.seek(0, os.SEEK_END)
            elif options.tail is not None:
                _seek_tail(file, options.tail)
            async for piece in self._lines(file, options.follow, ended):
                yield _stamped(piece, _written(file)) if options.timestamps else piece

    async def _lines(
        self, file: BinaryIO, follow: bool, ended: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        rest = b""
        while True:
            # Asked before reading: what is written up to the end is still read.
            last = not follow or ended()
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)  # The log was rotated: it begins anew.
            while block := file.read(_BLOCK):
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    yield whole + newline
                await self._clock.sleep(0)
            if last:
                break
            await self._clock.sleep(_POLL_SECONDS)
        if rest:
            yield rest


async def _limited(pieces: AsyncIterator[bytes], limit: int | None) -> AsyncIterator[bytes]:
    left = limit
    async for piece in pieces:
        if left is None:
            yield piece
            continue
        if left <= 0:
            return
        yield piece[:left]
        left -= len(piece)


def _container_name(pod: Object, wanted: str | None) -> str:
    name = pod["metadata"]["name"]
    spec = pod["spec"]
    main = [container["name"] for container in spec.get("containers") or ()]
    every = [container["name"] for container in spec.get("initContainers") or ()] + main
    if wanted is None:
        chosen = (pod["metadata"].get("annotations") or {}).get(
            "kubectl.kubernetes.io/default-container"
        )
        if chosen in main:
            return str(chosen)
        if len(every) == 1:
            return str(every[0])
        raise BadRequest(
            f"a container name must be specified for pod {name}, choose one of: [{' '.join(every)}]"
        )
    if wanted not in every:
        raise BadRequest(f"container {wanted} is not valid for pod {name}")
    return wanted


def _status(pod: Object, container: str) -> Object | None:
    status = pod.get("status") or {}
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return next((one for one in every if one.get("name") == container), None)


def _attempt(pod: Object, container: str, previous: bool) -> int:
    """Which run of the container is meant, counted from 0."""
    name = pod["metadata"]["name"]
    status = _status(pod, container)
    count = int(status.get("restartCount", 0)) if status is not None else 0
    state = (status.get("state") or {}) if status is not None else {}
    if previous:
        if count == 0:
            raise BadRequest(f'previous terminated container "{container}" in pod "{name}"'
                             " not found")  # fmt: skip
        return count - 1
    if "running" in state or "terminated" in state:
        return count
    waiting = state.get("waiting") or {}
    if waiting.get("reason") == "CrashLoopBackOff" or (status or {}).get("lastState"):
        # Between two runs: the log of the one that ended is what can be read.
        return count
    reason = waiting.get("message") or waiting.get("reason") or "ContainerCreating"
    raise BadRequest(f'container "{container}" in pod "{name}" is waiting to start: {reason}')


def _written(file: BinaryIO) -> datetime:
    return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)


def _stamped(piece: bytes, moment: datetime) -> bytes:
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()
    return b"".join(stamp + line for line in piece.splitlines(keepends=True))


def _seek_tail(file: BinaryIO, lines: int) -> None:
    """Go to the start of the last `lines` lines."""
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return
    position, wanted = end, lines + 1
    while position > 0:
        start = max(0, position - _BLOCK)
        file.seek(start)
        block = file.read(position - start)
        if position == end and not block.endswith(b"\n"):
            wanted -= 1  # The last line is not ended.
        at = len(block)
        while wanted and (at := block.rfind(b"\n", 0, at)) >= 0:
            wanted -= 1
        if not wanted:
            file.seek(start + at + 1)
            return
        position = start
    file.seek(0)
