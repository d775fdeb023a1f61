"""Servers as processes on one core: their start, what they cost, and their end."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SERVER_CORE, LOAD_CORE = 0, 1
START_SECONDS = 120.0
_TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A server did not start, ended, or answered wrongly; the message says which."""


@dataclass(frozen=True)
class Ports:
    """What a server may listen on. Picked free, and given to one server only."""

    http: int
    grpc: int
    metrics: int

    @classmethod
    def pick(cls) -> Ports:
        with contextlib.ExitStack() as stack:
            numbers = []
            for _ in range(3):
                held = stack.enter_context(socket.socket())
                held.bind(("127.0.0.1", 0))
                numbers.append(int(held.getsockname()[1]))
        return cls(*numbers)


def pinned(command: Sequence[str], core: int) -> list[str]:
    """The same command, held to one core with all that it starts."""
    return ["taskset", "-c", str(core), *command]


@dataclass(frozen=True)
class Probe:
    """A request that a server which is up answers with 200."""

    path: str
    body: bytes
    headers: Mapping[str, str]

    def answer(self, port: int) -> tuple[int, str]:
        """Status and text; 0 while no one listens."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", self.path, self.body, dict(self.headers))
            answer = connection.getresponse()
            text = answer.read(400)
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()
        return answer.status, text.decode(errors="replace")


class Server:
    """A server that runs. Use it in a `with`: at its end every process of it is gone.

    Attributes:
        start_seconds: from the start of the process to its first right answer.
    """

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], ports: Ports, log: Path
    ) -> None:
        self.name = name
        self.ports = ports
        self.log = log
        self.start_seconds = 0.0
        began = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                pinned(command, SERVER_CORE),
                env=environment(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._began = began

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def until_answering(self, probe: Probe) -> None:
        """Asks until the answer is 200; a server that is loading may say anything else."""
        while (answer := probe.answer(self.ports.http))[0] != 200:
            self.check()
            if time.perf_counter() - self._began > START_SECONDS:
                raise Failed(
                    f"{self.name} did not answer in {START_SECONDS:g} s; at last {answer[0]} "
                    f"{answer[1]}; its log ends: {self.tail()}"
                )
            time.sleep(0.01)
        self.start_seconds = time.perf_counter() - self._began

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def check(self) -> None:
        if (code := self._process.poll()) is not None:
            raise Failed(f"{self.name} ended with code {code}: {self.tail()}")

    def tail(self, size: int = 600) -> str:
        return self.log.read_bytes()[-size:].decode(errors="replace").strip()

    def processes(self) -> list[int]:
        return tree(self._process.pid)

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(pid) for pid in self.processes())

    def memory(self) -> dict[str, float]:
        """Megabytes over all its processes: resident, and proportional."""
        found = [memory(pid) for pid in self.processes()]
        return {key: round(sum(one[key] for one in found) / 1e6, 1) for key in ("rss", "pss")}

    def stop(self) -> None:
        pids = self.processes()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's, without what would change how a server or its framework starts."""
    dropped = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "OMP_NUM_THREADS")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, **extra}


def tree(pid: int) -> list[int]:
    """A process and all its descendants that still run."""
    children: dict[int, list[int]] = {}
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (proc / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(proc.name))
    return list(_below(pid, children))


def _below(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, []):
        yield from _below(child, children)


def cpu_seconds(pid: int) -> float:
    """Time on a core so far, in user and kernel mode; 0 for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(pid: int) -> dict[str, float]:
    """Bytes resident, and proportional: there, shared pages are counted once over all sharers."""
    found = {"rss": 0.0, "pss": 0.0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            key = line.partition(":")[0].lower()
            if key in found:
                found[key] = float(line.split()[1]) * 1024
    return found
