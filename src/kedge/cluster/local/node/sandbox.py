"""The agent's end: starts shims, speaks with them, finds those that outlived a former agent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedge.cluster.local.node import shim
from kedge.lib.errors import KedgeError

_LINE_LIMIT = 4 << 20
_BIRTH_TIMEOUT = 10.0
_SHUTDOWN_TIMEOUT = 5.0


class SandboxError(KedgeError):
    """A pod's shim could not do what it was asked.

    Attributes:
        step: where a start failed: `log`, `mount`, `workdir` or `exec`.
    """

    reason = "SandboxFailed"

    def __init__(self, message: str, *, step: str = "shim") -> None:
        super().__init__(message)
        self.step = step


class SandboxLost(SandboxError):
    """The shim is gone, and every process of the pod with it."""

    reason = "SandboxLost"


@dataclass(frozen=True)
class IsolationFacts:
    """What the kernel grants pods here (see `shim.Isolation`)."""

    pids: bool
    mounts: bool
    refusal: str = ""


@dataclass
class Run:
    """One run of one container, as the shim knows it. `code` is None while it runs."""

    container: str
    attempt: int
    pid: int
    started: float
    finished: float | None = None
    code: int | None = None
    signal: int = 0
    unlimited: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event, compare=False, repr=False)


@dataclass(frozen=True)
class ExecResult:
    """What a probe's or hook's command did."""

    code: int
    output: str
    timed_out: bool


class Sandbox:
    """A connection to one pod's shim."""

    def __init__(self, path: Path, channel: socket.socket) -> None:
        self.path = path
        self.pid = 0
        self.runs: dict[str, Run] = {}
        self.lost = asyncio.Event()
        self._channel = channel
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._born: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pidfd = -1

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(
            sock=self._channel, limit=_LINE_LIMIT
        )
        self._reading = asyncio.create_task(self._read(reader), name=f"shim:{self.path.name}")

    async def birth(self) -> None:
        """Wait until a new shim has its namespaces."""
        async with asyncio.timeout(_BIRTH_TIMEOUT):
            message = await self._born
        if message["event"] != "born":
            raise SandboxError(f"cannot make the pod's namespaces: {message['error']}")
        self._know(message["pid"])

    async def greet(self) -> None:
        """Learn from a shim that was here before us what it runs and what ended meanwhile."""
        hello = await self._ask({"op": "hello"})
        self._know(hello["pid"])
        for known in hello["containers"]:
            run = self.runs[known["container"]] = Run(**known)
            if run.code is not None:
                run.ended.set()

    async def start(self, request: dict[str, Any]) -> Run:
        """Start a container; a `SandboxError` says at which step it failed."""
        answer = await self._ask({"op": "start", **request})
        run = Run(
            request["container"], request["attempt"], answer["pid"], answer["started"],
            unlimited=answer["unlimited"],
        )  # fmt: skip
        early = self.runs.get(run.container)
        if early is not None and early.attempt == run.attempt:
            return early
        self.runs[run.container] = run
        return run

    async def wait(self, run: Run) -> Run:
        """Wait for the end of a run."""
        await run.ended.wait()
        if run.code is None:
            raise SandboxLost("the process that held the pod was killed")
        return run

    async def signal(self, container: str, number: int) -> None:
        await self._ask({"op": "signal", "container": container, "signal": int(number)})

    async def exec(self, request: dict[str, Any]) -> ExecResult:
        """Run a command inside a running container."""
        answer = await self._ask({"op": "exec", **request})
        return ExecResult(answer["code"], answer["output"], answer["timed_out"])

    async def shutdown(self) -> None:
        """End the shim and all it holds."""
        if not self.lost.is_set():
            with contextlib.suppress(SandboxLost):
                self._send({"op": "shutdown", "id": 0})
            try:
                async with asyncio.timeout(_SHUTDOWN_TIMEOUT):
                    await self.lost.wait()
            except TimeoutError:
                self._kill()
                await self.lost.wait()
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Let go of the shim; it goes on."""
        self._reading.cancel()
        self._writer.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _know(self, pid: int) -> None:
        self.pid = pid
        with contextlib.suppress(OSError, AttributeError):
            self._pidfd = os.pidfd_open(pid)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif self.pid:
                os.kill(self.pid, signal.SIGKILL)

    def _send(self, message: dict[str, Any]) -> None:
        if self.lost.is_set():
            raise SandboxLost("the process that held the pod was killed")
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({**message, "id": number})
            result: dict[str, Any] = await answer
        finally:
            del self._answers[number]
        if "error" in result:
            raise SandboxError(result["error"], step=result["step"])
        return result

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except OSError:
            pass
        finally:
            self._lose()

    def _take(self, message: dict[str, Any]) -> None:
        event = message.pop("event", None)
        if event is None:
            answer = self._answers.get(message.pop("id"))
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif event == "exited":
            self._note_exit(message)
        elif not self._born.done():
            self._born.set_result({"event": event, **message})

    def _note_exit(self, message: dict[str, Any]) -> None:
        run = self.runs.get(message["container"])
        if run is None or run.attempt != message["attempt"]:
            # It ended before we read the answer to its start.
            run = self.runs[message["container"]] = Run(**message)
        run.finished, run.code, run.signal = (
            message["finished"], message["code"], message["signal"],
        )  # fmt: skip
        run.ended.set()

    def _lose(self) -> None:
        self.lost.set()
        for run in self.runs.values():
            run.ended.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(SandboxLost("the process that held the pod was killed"))
        if not self._born.done():
            self._born.set_result({"event": "lost", "error": "the shim ended at its start"})


class Sandboxes:
    """All shims of this node.

    Args:
        runtime_dir: where their sockets are.
        life_fd: end-of-file there ends every shim; None to tie them to this process.
        namespaces: `auto`, `user` (a user namespace even as root) or `none`.
    """

    def __init__(self, runtime_dir: Path, life_fd: int | None, namespaces: str = "auto") -> None:
        self._dir = runtime_dir
        self._namespaces = namespaces
        self._template: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._opening = asyncio.Lock()
        self.isolation = IsolationFacts(False, False)
        if life_fd is None:
            # Nobody else holds the write end: our end, however it comes, is the pods' end.
            life_fd, self._life = os.pipe()
        self._life_fd = life_fd

    async def open(self) -> IsolationFacts:
        """Start the template that shims are forked from, if it does not run."""
        async with self._opening:
            if self._control is None:
                await self._start_template()
        return self.isolation

    async def create(self, uid: str, memory_volumes: list[dict[str, Any]]) -> Sandbox:
        """A new, empty pod."""
        path = self.path_of(uid)
        channel = await self._fork({"socket": str(path), "memory_volumes": memory_volumes})
        sandbox = Sandbox(path, channel)
        await sandbox.open()
        try:
            await sandbox.birth()
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    async def _fork(self, request: dict[str, Any]) -> socket.socket:
        """Have the template fork a shim, anew if it died; our end of the shim's first socket."""
        for last_try in (False, True):
            await self.open()
            assert self._control is not None
            ours, theirs = socket.socketpair()
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno()])
                return ours
            except OSError as error:
                ours.close()
                self._forget_template()
                if last_try:
                    raise SandboxError(f"the shim template does not answer: {error}") from error
            finally:
                theirs.close()
        raise AssertionError("unreachable")

    async def adopt(self, uid: str) -> Sandbox | None:
        """The shim that a former agent left for this pod, or None."""
        return await self._connect(self.path_of(uid))

    async def end_strays(self, uids: set[str]) -> int:
        """End the shims of pods that are not among `uids`; how many there were."""
        count = 0
        for path in self._dir.glob("pod-*.sock"):
            if path.stem.removeprefix("pod-") not in uids:
                sandbox = await self._connect(path)
                if sandbox is not None:
                    await sandbox.shutdown()
                    count += 1
        return count

    def path_of(self, uid: str) -> Path:
        return self._dir / f"pod-{uid}.sock"

    async def close(self) -> None:
        """End the template; the shims go on."""
        self._forget_template()
        if self._template is not None:
            await self._template.wait()

    async def _connect(self, path: Path) -> Sandbox | None:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(channel, str(path))
        except OSError:
            channel.close()
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return None
        sandbox = Sandbox(path, channel)
        await sandbox.open()
        try:
            await sandbox.greet()
        except SandboxError:
            sandbox.close()
            return None
        return sandbox

    async def _start_template(self) -> None:
        if self._template is not None:
            await self._template.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._template = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", shim.__file__,
            str(theirs.fileno()), str(self._life_fd), self._namespaces,
            pass_fds=(theirs.fileno(), self._life_fd),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._control = ours
        ours.setblocking(False)
        said = await asyncio.get_running_loop().sock_recv(ours, 1 << 16)
        if not said:
            self._forget_template()
            raise SandboxError("the shim template ended at its start")
        self.isolation = IsolationFacts(**json.loads(said))

    def _forget_template(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
