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
from collections.abc import Mapping, Sequence
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


class TemplateRefused(SandboxError):
    """A warm template cannot make this pod; it starts as any other program does.

    Attributes:
        step: `stale` when the template has ended because its files changed.
    """

    reason = "TemplateRefused"


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
        if message["event"] in ("refused", "stale"):
            raise TemplateRefused(message["error"], step=message["event"])
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


class Template:
    """A process that forks shims (`shim.Template`), started anew when it has died.

    Args:
        command: what starts it; the numbers of its descriptors are appended.
        life_fd: end-of-file there ends it and all that it forked.
        log: takes its output; None for none.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        life_fd: int,
        namespaces: str,
        log: Path | None = None,
    ) -> None:
        self._command = tuple(command)
        self._env = dict(env)
        self._life_fd = life_fd
        self._namespaces = namespaces
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._opening = asyncio.Lock()
        self.isolation = IsolationFacts(False, False)

    @property
    def pid(self) -> int:
        """Its number; 0 while it does not run."""
        return self._process.pid if self._process is not None and self._control is not None else 0

    async def open(self) -> IsolationFacts:
        """Start it, if it does not run."""
        async with self._opening:
            if self._control is None:
                await self._start()
        return self.isolation

    async def fork(self, request: dict[str, Any]) -> socket.socket:
        """Have a shim forked; our end of the shim's first socket."""
        for last_try in (False, True):
            await self.open()
            control = self._control
            assert control is not None
            ours, theirs = socket.socketpair()
            try:
                socket.send_fds(control, [json.dumps(request).encode()], [theirs.fileno()])
                return ours
            except OSError as error:
                ours.close()
                self._drop(control)
                if last_try:
                    raise SandboxError(f"the shim template does not answer: {error}") from error
            finally:
                theirs.close()
        raise AssertionError("unreachable")

    async def wait(self) -> None:
        """Until it has ended by itself."""
        control, process = self._control, self._process
        assert process is not None
        await process.wait()
        self._drop(control)

    def forget(self) -> None:
        """Let it end; what it forked goes on."""
        self._drop(self._control)

    def _drop(self, control: socket.socket | None) -> None:
        """Whoever finds it dead may be late: another may run in its place already."""
        if control is not None and control is self._control:
            control.close()
            self._control = None

    async def close(self) -> None:
        """Let it end, and wait for that."""
        self.forget()
        if self._process is not None:
            await self._process.wait()

    async def _start(self) -> None:
        if self._process is not None:
            await self._process.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        try:
            await self._run(theirs)
            ours.setblocking(False)
            said = await asyncio.get_running_loop().sock_recv(ours, 1 << 16)
            if not said:
                raise SandboxError(f"the shim template ended at its start{self._last_words()}")
        except BaseException:
            self.forget()
            raise
        finally:
            theirs.close()
        self.isolation = IsolationFacts(**json.loads(said))

    async def _run(self, control: socket.socket) -> None:
        with contextlib.ExitStack() as files:
            output: Any = asyncio.subprocess.DEVNULL
            if self._log is not None:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                output = files.enter_context(self._log.open("wb"))
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                str(control.fileno()), str(self._life_fd), self._namespaces,
                pass_fds=(control.fileno(), self._life_fd),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output if self._log is not None else None,
                env=self._env,
                cwd="/",
                start_new_session=True,
            )  # fmt: skip

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


class Sandboxes:
    """All shims of this node.

    Args:
        runtime_dir: where their sockets are.
        life_fd: end-of-file there ends every shim; None to tie them to this process.
        namespaces: `auto`, `user` (a user namespace even as root) or `none`.
    """

    def __init__(self, runtime_dir: Path, life_fd: int | None, namespaces: str = "auto") -> None:
        self._dir = runtime_dir
        if life_fd is None:
            # Nobody else holds the write end: our end, however it comes, is the pods' end.
            life_fd, self._life = os.pipe()
        self.life_fd = life_fd
        self.namespaces = namespaces
        self._plain = Template((sys.executable, "-I", "-S", shim.__file__), {}, life_fd, namespaces)

    @property
    def isolation(self) -> IsolationFacts:
        return self._plain.isolation

    async def open(self) -> IsolationFacts:
        """Start the template that shims are forked from, if it does not run."""
        return await self._plain.open()

    async def create(
        self,
        uid: str,
        memory_volumes: list[dict[str, Any]],
        template: Template | None = None,
        program: Mapping[str, Any] | None = None,
    ) -> Sandbox:
        """A new, empty pod.

        Args:
            template: forks its shim; the plain one unless given.
            program: arguments and environment that the shim is to be able to run without exec.

        Raises:
            TemplateRefused: `template` has other things imported than `program` would.
        """
        path = self.path_of(uid)
        request = {"socket": str(path), "memory_volumes": memory_volumes, **(program or {})}
        channel = await (template or self._plain).fork(request)
        sandbox = Sandbox(path, channel)
        await sandbox.open()
        try:
            await sandbox.birth()
        except BaseException:
            sandbox.close()
            raise
        return sandbox

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
        await self._plain.close()

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
