"""The process that holds a pod: its init, its mount namespace, its container runtime.

Started as `python -I -S shim.py CONTROL_FD LIFE_FD NAMESPACES`, it is a *template*: one small
process per node agent that forks a shim for each pod asked for on CONTROL_FD. A fork takes a
millisecond and shares the interpreter's memory; a fresh interpreter takes 25 and shares little.

A *warm* template (`kedge serve RUNTIME --template`) is the same with a program at hand: it has
imported a model server and its framework before it calls `main`, so that a container of the pods
that it forks need not be started by exec (`Program`).

A shim outlives the agent (a crash of Kedge is no outage of warm models) but not the supervisor:
when LIFE_FD reads end-of-file, it kills everything it holds and exits. It is PID 1 of the pod's own
PID namespace, so its end is the end of every process below it, a daemon that forked twice included.
Where the kernel refuses PID namespaces it is a child subreaper and kills the tree itself.

The agent talks to it in JSON lines, first over a socket it was born with, and after a restart of
the agent over a unix socket whose path it was told. A request has an `id` and gets an answer with
that `id`; the end of a container is told as `{"event": "exited", ...}` and kept, so that an agent
that was not there can ask for it (`hello`).

Mount points that do not exist (`/mnt/models`) are made without touching the host: the nearest
existing parent is covered, in the container's own mount namespace, by a small tmpfs in which
everything that was there is bound back; for a parent of `/` that tmpfs becomes the root. Only a
parent with more entries than `GRAFT_LIMIT` gets a real, empty folder instead.

This is one file of the standard library alone, since it runs without site-packages and its size is
paid once per pod.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_NOATIME, MS_NODIRATIME = 1, 32, 1024, 2048
MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 4096, 16384, 1 << 18, 1 << 21
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 15, 36, 38
ST_RELATIME = 4096

GRAFT_LIMIT = 512
"""A folder with more entries is not covered to make a mount point in it."""
OUTPUT_LIMIT = 10_240
"""Bytes of a probe's or hook's output that are kept."""
MARKER = "KEDGE_CONTAINER"
"""Environment variable by which a container's stray processes are known."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _check(_LIBC.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    result = _LIBC.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {source} on {target}")


def _prctl(option: int, value: int | bytes) -> None:
    _check(_LIBC.prctl(ctypes.c_int(option), value, 0, 0, 0), "prctl")


class Program(Protocol):
    """What a warm template has imported, and its shims can run without exec."""

    def refusal(self, request: dict[str, Any]) -> str:
        """Why a pod's container would be another program than this; empty when it is this one."""

    def is_stale(self) -> bool:
        """Whether files that were imported have changed since."""

    def idle(self) -> float | None:
        """Called when there is nothing to do; milliseconds until it is to be called again."""

    def become(self, argv: list[str], env: dict[str, str]) -> NoReturn:
        """Be the program, in a process that has its limits, mounts and folder."""


class Isolation:
    """Which namespaces the kernel gives us.

    Attributes:
        pids: each pod has its own PID namespace.
        mounts: each container has its own mount namespace.
        user: both are had through a user namespace.
        refusal: why something is missing; empty when all is there.
    """

    def __init__(self, pids: bool, mounts: bool, user: bool, refusal: str = "") -> None:
        self.pids, self.mounts, self.user, self.refusal = pids, mounts, user, refusal

    def enter(self) -> None:
        """Leave the host's namespaces; the PID namespace starts with the next fork."""
        uid, gid = os.geteuid(), os.getegid()
        flags = CLONE_NEWNS if self.mounts else 0
        flags |= CLONE_NEWPID if self.pids else 0
        flags |= CLONE_NEWUSER if self.user else 0
        if not flags:
            return
        unshare(flags)
        if self.user:
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")

    def settle(self) -> None:
        """After that fork: keep mounts to ourselves and show the namespace's processes."""
        if self.mounts:
            mount("none", "/", None, MS_REC | MS_PRIVATE)
        if self.pids:
            mount("proc", "/proc", "proc", 0)

    def works(self) -> str:
        """Try it in a child; the refusal, or nothing."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self.enter()
                inner = os.fork()
                if inner == 0:
                    self.settle()
                    os._exit(0)
                _, status = os.waitpid(inner, 0)
                message = "mount /proc: refused" if status else ""
            except BaseException as error:
                message = str(error)
            if message:
                os.write(write, message.encode()[:500])
            os._exit(0)
        os.close(write)
        message = os.read(read, 500).decode()
        os.close(read)
        os.waitpid(child, 0)
        return message

    @classmethod
    def find(cls, wanted: str) -> Isolation:
        """The most that works; `wanted` is `auto`, `user` or `none`."""
        if wanted == "none":
            return cls(False, False, False, "namespaces are switched off")
        if not sys.platform.startswith("linux"):
            return cls(False, False, False, f"{sys.platform} has no mount namespaces")
        users = (False, True) if os.geteuid() == 0 and wanted != "user" else (True,)
        refusal = ""
        for pids in (True, False):
            for user in users:
                attempt = cls(pids, True, user, refusal)
                why = attempt.works()
                if not why:
                    return attempt
                refusal = refusal or why
        return cls(False, False, False, refusal)


class Mounts:
    """Builds one container's view of the file system; used once, in the container's process."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._volumes: list[str] = []
        self._grafts: set[int] = set()

    def make(self, mounts: list[dict[str, Any]]) -> None:
        """Mount all, given in the order of their depth."""
        if any(self._anchor(os.path.realpath(m["target"])) == "/" for m in mounts):
            self._graft_root()
        # A volume may cover the folder that another volume comes from: hold on to all sources.
        held = [os.open(m["source"], os.O_PATH) for m in mounts]
        for wish, fd in zip(mounts, held, strict=True):
            target = os.path.realpath(wish["target"])
            self._make_point(target, os.path.isdir(fd))
            mount(f"/proc/self/fd/{fd}", target, None, MS_BIND | MS_REC)
            if wish["readonly"]:
                _make_readonly(target)
            self._volumes.append(target)
        for fd in held:
            os.close(fd)

    def _anchor(self, target: str) -> str:
        """The nearest existing folder; the target itself when it exists."""
        while not os.path.exists(target):
            target = os.path.dirname(target)
        return target

    def _make_point(self, target: str, is_folder: bool) -> None:
        anchor = self._anchor(target)
        if anchor == target:
            return
        if os.stat(anchor).st_dev not in self._grafts and not self._in_volume(anchor):
            self._graft(anchor)
        _make_empty(target, is_folder)

    def _in_volume(self, path: str) -> bool:
        inside = any(path == v or path.startswith(v + "/") for v in self._volumes)
        return inside and os.access(path, os.W_OK)

    def _graft(self, anchor: str) -> None:
        names = os.listdir(anchor)
        if len(names) > GRAFT_LIMIT:
            return
        fd = os.open(anchor, os.O_PATH | os.O_DIRECTORY)
        self._cover(anchor, anchor, f"/proc/self/fd/{fd}", names)
        os.close(fd)

    def _graft_root(self) -> None:
        self._cover(self._stage, "/", "", os.listdir("/"))
        os.chdir(self._stage)
        _check(_LIBC.pivot_root(b".", b"."), "pivot_root")
        _check(_LIBC.umount2(b".", MNT_DETACH), "umount the old root")
        os.chdir("/")

    def _cover(self, point: str, like: str, source: str, names: list[str]) -> None:
        mode = os.stat(like).st_mode & 0o7777
        mount("tmpfs", point, "tmpfs", 0, f"mode={mode:o},size=64m")
        self._grafts.add(os.stat(point).st_dev)
        for name in names:
            with contextlib.suppress(OSError):
                _bind_back(f"{source}/{name}", f"{point}/{name}")


def _bind_back(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    _make_empty(target, os.path.isdir(source))
    mount(source, target, None, MS_BIND | MS_REC)


def _make_empty(target: str, is_folder: bool) -> None:
    if is_folder:
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def _make_readonly(target: str) -> None:
    # Flags that the file system came with are locked in a user namespace: repeat them.
    flags = os.statvfs(target).f_flag
    kept = flags & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | MS_NOATIME | MS_NODIRATIME)
    kept |= MS_RELATIME if flags & ST_RELATIME else 0
    mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


class Container:
    """The present or last run of one container."""

    def __init__(self, name: str, attempt: int, pid: int, host_pid: int) -> None:
        self.name, self.attempt, self.pid, self.host_pid = name, attempt, pid, host_pid
        self.started = time.time()
        self.finished: float | None = None
        self.code: int | None = None
        self.signal = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "container": self.name,
            "attempt": self.attempt,
            "pid": self.host_pid,
            "started": self.started,
            "finished": self.finished,
            "code": self.code,
            "signal": self.signal,
        }


class Exec:
    """A probe or hook command inside a container."""

    def __init__(self, id: int, pid: int, output: int, deadline: float) -> None:
        self.id, self.pid, self.output_fd, self.deadline = id, pid, output, deadline
        self.output = b""
        self.timed_out = False


class Shim:
    """One pod."""

    def __init__(
        self,
        request: dict[str, Any],
        channel: socket.socket,
        life: int,
        isolation: Isolation,
        program: Program | None = None,
    ) -> None:
        self._path: str = request["socket"]
        self._isolation = isolation
        self._program = program
        self._channel: socket.socket | None = channel
        self._life = life
        self._containers: dict[str, Container] = {}
        self._execs: dict[int, Exec] = {}
        self._received = b""
        self._unsent = b""
        # Seen from here, before our own /proc is there, "self" is a process's number on the host.
        self._host_proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self.host_pid = int(os.readlink("self", dir_fd=self._host_proc))
        isolation.settle()
        if not isolation.pids:
            _prctl(PR_SET_CHILD_SUBREAPER, 1)
        for volume in request["memory_volumes"]:
            self._mount_memory(volume)

    def _mount_memory(self, volume: dict[str, Any]) -> None:
        if self._isolation.mounts:
            size = f",size={volume['size']}" if volume["size"] else ""
            mount("tmpfs", volume["path"], "tmpfs", 0, f"mode=1777{size}")

    def run(self) -> NoReturn:
        """Serve the agent until told to end, or until the supervisor dies."""
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._listener.bind(self._path)
        self._listener.listen(4)
        if self._channel is not None:
            self._channel.setblocking(False)
        self._poll = select.poll()
        for fd in (self._life, self._wake, self._listener.fileno()):
            self._poll.register(fd, select.POLLIN)
        self._watch_channel()
        self._tell({"event": "born", "pid": self.host_pid})
        while True:
            for fd, events in self._poll.poll(self._patience()):
                self._handle(fd, events)
            self._reap()
            self._expire()

    def _handle(self, fd: int, events: int) -> None:
        if fd == self._life:
            self._end()
        elif fd == self._wake:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        elif fd == self._listener.fileno():
            self._accept()
        elif self._channel is not None and fd == self._channel.fileno():
            if events & select.POLLOUT:
                self._flush()
            if events & ~select.POLLOUT:
                self._receive()
        else:
            self._collect(fd)

    def _accept(self) -> None:
        channel, _ = self._listener.accept()
        self._hang_up()
        channel.setblocking(False)
        self._channel, self._received, self._unsent = channel, b"", b""
        self._watch_channel()

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._poll.unregister(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _watch_channel(self) -> None:
        if self._channel is not None:
            events = select.POLLIN | (select.POLLOUT if self._unsent else 0)
            self._poll.register(self._channel.fileno(), events)

    def _tell(self, message: dict[str, Any]) -> None:
        if self._channel is not None:
            self._unsent += json.dumps(message).encode() + b"\n"
            self._flush()

    def _flush(self) -> None:
        if self._channel is None:
            return
        try:
            self._unsent = self._unsent[self._channel.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up()
            return
        self._watch_channel()

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            data = self._channel.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            try:
                answer = getattr(self, "do_" + request["op"])(request)
            except Exception as error:  # Whatever it was: the pod's life hangs on this process.
                answer = {"error": f"{type(error).__name__}: {error}", "step": "shim"}
            if answer is not None:
                self._tell({"id": request["id"], **answer})

    # What the agent may ask for: one method each.

    def do_hello(self, _request: dict[str, Any]) -> dict[str, Any]:
        containers = [container.to_dict() for container in self._containers.values()]
        return {"pid": self.host_pid, "containers": containers}

    def _refusal(self, request: dict[str, Any]) -> str:
        return self._program.refusal(request) if self._program is not None else "no program"

    def _is_warm(self) -> bool:
        return self._program is not None and not self._program.is_stale()

    def do_start(self, request: dict[str, Any]) -> dict[str, Any]:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            self._become(request, write)
        os.close(write)
        said = b""
        while piece := os.read(read, 65536):
            said += piece
        os.close(read)
        first, _, rest = said.partition(b"\n")
        if not first or rest:
            os.waitpid(pid, 0)
            failure = json.loads(rest) if rest else {"error": "killed at start", "step": "exec"}
            return dict(failure)
        facts = json.loads(first)
        container = Container(request["container"], request["attempt"], pid, facts["pid"])
        self._containers[container.name] = container
        return {"pid": facts["pid"], "started": container.started, "unlimited": facts["unlimited"]}

    def do_signal(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self._containers.get(request["container"])
        if container is not None and container.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(container.pid, request["signal"])
        return {}

    def do_exec(self, request: dict[str, Any]) -> dict[str, Any] | None:
        container = self._containers.get(request["container"])
        if container is None or container.code is not None:
            return {"error": "the container is not running", "step": "exec"}
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become_exec(request, container, write)
        os.close(write)
        os.set_blocking(read, False)
        self._execs[read] = Exec(request["id"], pid, read, time.monotonic() + request["timeout"])
        self._poll.register(read, select.POLLIN)
        return None

    def do_shutdown(self, _request: dict[str, Any]) -> None:
        self._end()

    # In the child, between fork and exec.

    def _become(self, request: dict[str, Any], report: int) -> NoReturn:
        step = "log"
        try:
            os.setsid()
            if not self._isolation.pids:
                _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            _redirect(output)
            facts = {"pid": int(os.readlink("self", dir_fd=self._host_proc)), "unlimited": ""}
            facts["unlimited"] = self._limit(request)
            os.write(report, json.dumps(facts).encode() + b"\n")
            step = "mount"
            if self._isolation.mounts and request["mounts"]:
                unshare(CLONE_NEWNS)
                Mounts(request["stage"]).make(request["mounts"])
            step = "workdir"
            os.chdir(request["workdir"])
            step = "exec"
            if request["warm"] and self._is_warm() and not self._refusal(request):
                self._run_program(request, report)
            _replace(request)
        except BaseException as error:
            os.write(report, json.dumps({"error": str(error), "step": step}).encode())
        os._exit(127)

    def _run_program(self, request: dict[str, Any], report: int) -> NoReturn:
        """What exec does of itself: nothing of this process is left to the program."""
        assert self._program is not None
        _reset_signals()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # As every Python does.
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if request["no_new_privs"]:
            _prctl(PR_SET_NO_NEW_PRIVS, 1)
        _prctl(PR_SET_NAME, os.path.basename(request["argv"][0]).encode()[:15])
        os.closerange(3, report)
        os.closerange(report + 1, 1 << 16)
        os.close(report)
        self._program.become(request["argv"], request["env"])

    def _become_exec(self, request: dict[str, Any], container: Container, output: int) -> NoReturn:
        try:
            os.setsid()
            _redirect(output)
            self._limit(request)
            if self._isolation.mounts:
                namespace = os.open(f"/proc/{container.pid}/ns/mnt", os.O_RDONLY)
                _check(_LIBC.setns(namespace, CLONE_NEWNS), "setns")
            os.chdir(request["workdir"])
            _replace(request)
        except BaseException as error:
            os.write(2, str(error).encode())
        os._exit(126)

    def _limit(self, request: dict[str, Any]) -> str:
        """Enter the limits; what could not be limited."""
        problem = ""
        for folder in request["cgroups"]:
            try:
                _write(f"{folder}/cgroup.procs", "0")
            except OSError as error:
                problem = f"{folder}: {error.strerror}"
        with contextlib.suppress(OSError):
            fd = os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=self._host_proc)
            os.write(fd, str(request["oom_score_adj"]).encode())
        if request["nice"]:
            os.nice(request["nice"])
        return problem

    # Ends.

    def _reap(self) -> None:
        by_pid = {c.pid: c for c in self._containers.values() if c.code is None}
        execs = {e.pid: e for e in self._execs.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid in by_pid:
                self._finish(by_pid[pid], code)
            elif pid in execs:
                self._answer_exec(execs[pid], code)

    def _finish(self, container: Container, code: int) -> None:
        container.finished = time.time()
        container.signal = -code if code < 0 else 0
        container.code = 128 - code if code < 0 else code
        self._kill_strays(container)
        self._tell({"event": "exited", **container.to_dict()})

    def _kill_strays(self, container: Container) -> None:
        """A container ends with its first process; what that one left behind ends now."""
        alone = all(other.code is not None for other in self._containers.values())
        if alone and self._isolation.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            return
        marker = f"{MARKER}={container.name}".encode()
        for pid in _descendants(os.getpid()):
            if alone or _session(pid) == container.pid or marker in _environment(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _collect(self, fd: int) -> None:
        run = self._execs.get(fd)
        if run is None:
            return
        with contextlib.suppress(BlockingIOError):
            piece = os.read(fd, 65536)
            if not piece:
                self._ignore(fd)
            run.output = (run.output + piece)[:OUTPUT_LIMIT]

    def _ignore(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(fd)

    def _answer_exec(self, run: Exec, code: int) -> None:
        self._collect(run.output_fd)
        self._ignore(run.output_fd)
        os.close(run.output_fd)
        del self._execs[run.output_fd]
        output = run.output.decode(errors="replace")
        self._tell({"id": run.id, "code": code, "output": output, "timed_out": run.timed_out})

    def _patience(self) -> float | None:
        """Milliseconds until the next command's time is up."""
        deadlines = [run.deadline for run in self._execs.values() if not run.timed_out]
        if not deadlines:
            return None
        return max(0.0, min(deadlines) - time.monotonic()) * 1000 + 1

    def _expire(self) -> None:
        now = time.monotonic()
        for run in self._execs.values():
            if run.deadline <= now and not run.timed_out:
                run.timed_out = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(run.pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(run.pid, signal.SIGKILL)

    def _end(self) -> NoReturn:
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        if not self._isolation.pids:
            _kill_tree()
        os._exit(0)


def _redirect(output: int) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _replace(request: dict[str, Any]) -> None:
    """Become the program; returns only by raising."""
    _reset_signals()
    if request["no_new_privs"]:
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
    argv, env = request["argv"], request["env"]
    try:
        os.execvpe(argv[0], argv, env)
    except FileNotFoundError as error:
        where = "" if "/" in argv[0] else f" in PATH={env.get('PATH', '')}"
        raise OSError(f"no program {argv[0]!r}{where}") from error
    except PermissionError as error:
        raise OSError(f"{argv[0]!r} may not be executed") from error


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _descendants(root: int) -> list[int]:
    """Every process below `root`, as /proc shows them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _kill_tree() -> None:
    """Kill all that is below this process, until nothing is (orphans come to us, the subreaper)."""
    while found := _descendants(os.getpid()):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


class Template:
    """Forks shims, until the agent or the supervisor is gone.

    Args:
        control: the agent's requests come here, each with the first socket of the shim to be.
        life: end-of-file there is the supervisor's death.
        program: what this process has imported; None for a plain one.
    """

    def __init__(
        self, control: int, life: int, isolation: Isolation, program: Program | None = None
    ) -> None:
        self._control, self._life = control, life
        self._isolation = isolation
        self._program = program
        self._requests = socket.socket(fileno=control)
        self._own_pids = -1
        if isolation.pids and not isolation.user:
            self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY)
            # Shims are our children then; whoever dies first, none is waited for.
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def run(self) -> None:
        isolation = self._isolation
        facts = {"pids": isolation.pids, "mounts": isolation.mounts, "refusal": isolation.refusal}
        self._requests.send(json.dumps(facts).encode())
        gc.collect()
        gc.freeze()
        gc.disable()
        poll = select.poll()
        poll.register(self._life, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        patience: float | None = None if self._program is None else 0.0
        while True:
            ready = dict(poll.poll(patience))
            if self._life in ready:
                return
            if not ready and self._program is not None:
                patience = self._program.idle()
                continue
            data, fds, _, _ = socket.recv_fds(self._requests, 1 << 20, 1)
            if not data or not self._answer(json.loads(data), fds):
                return

    def _answer(self, request: dict[str, Any], fds: list[int]) -> bool:
        """Fork a shim; whether this template is still of use."""
        channel = socket.socket(fileno=fds[0])
        os.set_inheritable(fds[0], False)
        try:
            if self._program is not None:
                if self._program.is_stale():
                    _tell_once(channel, {"event": "stale", "error": "its files have changed"})
                    return False
                if why := self._program.refusal(request):
                    _tell_once(channel, {"event": "refused", "error": why})
                    return True
            self._fork(request, channel)
        finally:
            channel.close()
        return True

    def _fork(self, request: dict[str, Any], channel: socket.socket) -> None:
        """The shim is the first process of its PID namespace, and outlives this one."""
        if self._own_pids < 0:
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                return
            self._be_shim(request, channel, self._isolation.enter, twice=True)
        # Only the next child enters the namespace: we leave it again, one fork is enough.
        unshare(CLONE_NEWPID)
        child = os.fork()
        if child == 0:
            self._be_shim(request, channel, lambda: unshare(CLONE_NEWNS), twice=False)
        _check(_LIBC.setns(self._own_pids, CLONE_NEWPID), "setns")

    def _be_shim(
        self,
        request: dict[str, Any],
        channel: socket.socket,
        enter: Callable[[], None],
        *,
        twice: bool,
    ) -> NoReturn:
        try:
            os.close(self._control)
            os.setsid()
            enter()
            if twice and os.fork():
                os._exit(0)
            _prctl(PR_SET_NAME, b"kedge-pod")
            Shim(request, channel, self._life, self._isolation, self._program).run()
        except BaseException as error:
            _tell_once(channel, {"event": "stillborn", "error": str(error)})
        finally:
            os._exit(1)


def _tell_once(channel: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        channel.setblocking(True)
        channel.send(json.dumps(message).encode() + b"\n")


def _close_others(wanted: set[int]) -> None:
    """What the agent's event loop let through must not reach containers."""
    for name in os.listdir("/dev/fd"):
        if int(name) not in wanted:
            with contextlib.suppress(OSError):
                os.close(int(name))


def main(argv: list[str], program: Program | None = None) -> None:
    """Be a template with the descriptors that `argv` names."""
    control, life, wanted = int(argv[0]), int(argv[1]), argv[2]
    _close_others({0, 1, 2, control, life})
    os.set_inheritable(control, False)
    os.set_inheritable(life, False)
    Template(control, life, Isolation.find(wanted), program).run()


if __name__ == "__main__":
    main(sys.argv[1:])
