"""The process that `kedge up` becomes: it starts Kedge's parts and restarts what dies.

It is of the standard library only, so that it stays small and has no reason to die itself. It is
told what to run by a plan, a JSON file that `kedge.modes.local` writes.

Three mechanisms keep the promise that only the supervisor's own death ends pods:

* **Life pipe.** Its write end stays here, its read end goes to every child (`KEDGE_LIFE_FD`) and
  from there to every pod's shim. However the supervisor dies, the kernel closes the pipe, and all
  readers see end-of-file and end themselves.
* **Parent-death signal** for Envoy, which cannot watch a pipe.
* **Child subreaper.** A pod's shim is started by the data side; when that is killed, the shim
  becomes the supervisor's child and lives on.

Parts tell that they are ready by a datagram with their name to `KEDGE_NOTIFY_SOCKET`; one with
more lines tells what keeps the part from that. Such a fault ends a Kedge that was never ready; of
one that was, `ready.json` has it until the part is well again.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)

FIRST_RESTART = 0.02
"""Seconds before the first restart; doubles while a part keeps dying without being ready."""
LAST_RESTART = 5.0
"""Longest wait between two restarts, in seconds."""
START_ATTEMPTS = 3
"""Exits of one part before Kedge was ever ready, after which start-up has failed."""
FAULTY_EXITS = 3
"""Exits of one part in a row after which a Kedge that was ready tells of them."""
SURE_LIFE = 10.0
"""Seconds that a part that does not tell that it is ready must live to be well."""
SLOW_START = 15.0
"""Seconds after which a start that takes long is told of."""
MOST_TOLD = 8192
"""Bytes of a datagram."""
STOP_GRACE = 8.0
"""Seconds between asking the parts to end and killing them."""


@dataclass
class Part:
    """One child process.

    Attributes:
        name: as in its log's name and its readiness datagram.
        argv: the command.
        env: added to the environment.
        log: file that takes its output.
        dies_with_parent: set the parent-death signal, for programs that cannot watch the life pipe.
        awaited: whether Kedge counts as ready only after its datagram.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    log: str
    dies_with_parent: bool = False
    awaited: bool = True
    pid: int = 0
    started: float = 0.0
    exits: int = 0
    restart_at: float | None = None
    ready: bool = False


@dataclass
class Plan:
    """What to run.

    Attributes:
        data_dir: holds the lock, `kedge.pid`, `ready.json` and the logs.
        notify_socket: path of the readiness socket.
        announcement: what `ready.json` says, and `lines` what is printed, once all are ready.
        scratch_dir: removed when all has ended; empty for none.
        control_groups: the pods' parent groups, removed when all has ended.
    """

    data_dir: str
    notify_socket: str
    parts: list[Part]
    announcement: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    scratch_dir: str = ""
    control_groups: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: str) -> Plan:
        raw = json.loads(Path(path).read_text())
        raw["parts"] = [Part(**part) for part in raw["parts"]]
        return cls(**raw)

    def to_json(self) -> str:
        """The form that `read` takes."""
        return json.dumps(dataclasses.asdict(self))


class AlreadyRunning(Exception):
    """Another supervisor holds this data directory."""


class Supervisor:
    """Runs a plan until told to stop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._data_dir = Path(plan.data_dir)
        self._began = time.monotonic()
        self._ready_after: float | None = None
        self._told_slow = False
        self._faults: dict[str, str] = {}
        self._stopping = False
        self._failed = ""

    def run(self) -> int:
        """Start everything, keep it running, stop it on SIGTERM or SIGINT; the exit status."""
        with self._lock():
            _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self._life_read, self._life_write = os.pipe()
            os.set_inheritable(self._life_read, True)
            self._notify = self._bind_notify()
            self._wake_read, wake_write = socket.socketpair()
            self._wake_read.setblocking(False)
            wake_write.setblocking(False)
            signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, self._ask_stop)
            try:
                for part in self.plan.parts:
                    self._start(part)
                while not self._stopping:
                    self._wait()
            finally:
                self._stop_all()
        if self._failed:
            print(self._failed, file=sys.stderr, flush=True)
            return 1
        return 0

    @contextlib.contextmanager
    def _lock(self) -> Any:
        with open(self._data_dir / "lock", "a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AlreadyRunning(str(self._data_dir)) from error
            os.set_inheritable(lock.fileno(), False)
            pid_file = self._data_dir / "kedge.pid"
            pid_file.write_text(f"{os.getpid()}\n")
            (self._data_dir / "ready.json").unlink(missing_ok=True)
            try:
                yield
            finally:
                (self._data_dir / "ready.json").unlink(missing_ok=True)
                pid_file.unlink(missing_ok=True)

    def _bind_notify(self) -> socket.socket:
        Path(self.plan.notify_socket).unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(self.plan.notify_socket)
        notify.setblocking(False)
        return notify

    def _ask_stop(self, *_: Any) -> None:
        self._stopping = True

    def _start(self, part: Part) -> None:
        def in_child() -> None:
            # Ctrl-C in the terminal reaches the whole group; the order of stopping is ours.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if part.dies_with_parent:
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

        with open(part.log, "ab") as log:
            try:
                process = subprocess.Popen(
                    part.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={
                        **os.environ,
                        **part.env,
                        "KEDGE_LIFE_FD": str(self._life_read),
                        "KEDGE_NOTIFY_SOCKET": self.plan.notify_socket,
                    },
                    pass_fds=() if part.dies_with_parent else (self._life_read,),
                    preexec_fn=in_child,
                )
            except OSError as error:
                self._fail(f"{part.name} could not be started: {error}")
                return
        part.pid, part.started, part.restart_at = process.pid, time.monotonic(), None
        # The object would warn, at its end, of a process it still takes for running: it is
        # reaped by pid below, together with orphans that no object knows.
        process.returncode = 0

    def _wait(self) -> None:
        due = [part.restart_at for part in self.plan.parts if part.restart_at is not None]
        doubtful = [part for part in self.plan.parts if self._is_in_doubt(part)]
        due += [part.started + SURE_LIFE for part in doubtful]
        if not self._announced and not self._told_slow:
            due.append(self._began + SLOW_START)
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        readable, _, _ = select.select([self._wake_read, self._notify], [], [], timeout)
        if self._wake_read in readable:
            with contextlib.suppress(BlockingIOError):
                self._wake_read.recv(4096)
        if self._notify in readable:
            self._take_notices()
        self._reap()
        now = time.monotonic()
        for part in self.plan.parts:
            if not self._stopping and part.restart_at is not None and part.restart_at <= now:
                self._start(part)
        for part in doubtful:
            if self._is_in_doubt(part) and part.started + SURE_LIFE <= now:
                self._note_fault(part, "")
        if not self._announced and not self._told_slow and now >= self._began + SLOW_START:
            self._told_slow = True
            self._tell_slow()

    def _is_in_doubt(self, part: Part) -> bool:
        """Whether it ended too often, and nobody will say when it is well."""
        return not part.awaited and part.pid != 0 and part.name in self._faults

    def _tell_slow(self) -> None:
        awaited = [part for part in self.plan.parts if part.awaited and not part.ready]
        names = ", ".join(part.name for part in awaited)
        logs = ", ".join(part.log for part in self.plan.parts)
        print(
            f"Kedge is not ready after {SLOW_START:.0f} s: it waits for {names} (logs: {logs}).",
            file=sys.stderr,
            flush=True,
        )

    def _take_notices(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self._notify.recv(MOST_TOLD).decode(errors="replace")
                name, _, fault = text.strip().partition("\n")
                for part in self.plan.parts:
                    if part.name == name:
                        self._take_notice(part, fault)
        if not self._announced and all(p.ready for p in self.plan.parts if p.awaited):
            self._announce()

    def _take_notice(self, part: Part, fault: str) -> None:
        part.ready = part.ready or not fault
        if fault and not self._announced:
            self._fail(fault)
        else:
            self._note_fault(part, fault)

    def _note_fault(self, part: Part, fault: str) -> None:
        """What is wrong with a part, until nothing is."""
        if fault == self._faults.get(part.name, ""):
            return
        self._log(f"{part.name}: {fault}" if fault else f"{part.name} is well again")
        self._faults[part.name] = fault
        if not fault:
            del self._faults[part.name]
        if self._announced:
            with contextlib.suppress(OSError):  # A full disk is no reason to end.
                self._write_ready()

    @property
    def _announced(self) -> bool:
        """Whether Kedge was ready once."""
        return self._ready_after is not None

    def _announce(self) -> None:
        self._ready_after = round(time.monotonic() - self._began, 3)
        self._write_ready()
        for line in self.plan.lines:
            print(line.replace("{seconds}", f"{self._ready_after:.1f}"), flush=True)

    def _write_ready(self) -> None:
        document = {
            "pid": os.getpid(),
            "started_seconds": self._ready_after,
            **self.plan.announcement,
            **({"faults": self._faults} if self._faults else {}),
        }
        unfinished = self._data_dir / "ready.json.part"
        unfinished.write_text(json.dumps(document) + "\n")
        unfinished.rename(self._data_dir / "ready.json")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for part in self.plan.parts:
                if part.pid == pid:
                    self._part_ended(part, os.waitstatus_to_exitcode(status))

    def _part_ended(self, part: Part, code: int) -> None:
        part.pid, part.exits = 0, part.exits + 1
        if self._stopping:
            return
        lived = time.monotonic() - part.started
        well = part.ready or (not part.awaited and lived >= SURE_LIFE)
        ending = f"signal {-code}" if code < 0 else f"status {code}"
        self._log(f"{part.name} ended with {ending} after {lived:.1f} s; it is restarted")
        if well or code in (-signal.SIGKILL, -signal.SIGTERM):
            # It worked, or somebody ended it: neither is a reason to wait.
            part.exits = 1
        part.ready = False
        if not self._announced and part.exits >= START_ATTEMPTS:
            self._fail(
                f"{part.name} ended with {ending}, {part.exits} times, before Kedge was ready.\n"
                f"{_tail(part.log)}\nFix: mend what the lines above say (whole log: {part.log})."
            )
            return
        if self._announced and part.exits >= FAULTY_EXITS and part.name not in self._faults:
            self._note_fault(
                part,
                f"it ended with {ending} {part.exits} times in a row and is started again and"
                f" again; its last words:\n{_tail(part.log, 3)}\nFix: read {part.log}.",
            )
        delay = min(FIRST_RESTART * 2 ** (part.exits - 1), LAST_RESTART)
        part.restart_at = time.monotonic() + delay

    def _fail(self, message: str) -> None:
        self._failed = message
        self._stopping = True

    def _log(self, message: str) -> None:
        with (
            contextlib.suppress(OSError),
            open(self._data_dir / "logs" / "supervisor.log", "a") as log,
        ):
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}\n")

    def _stop_all(self) -> None:
        """End the parts in reverse order, then the pods, then whatever is left below us."""
        self._stopping = True
        for part in reversed(self.plan.parts):
            if part.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(part.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE
        while any(part.pid for part in self.plan.parts) and time.monotonic() < deadline:
            self._reap()
            select.select([self._wake_read], [], [], 0.02)
        for part in self.plan.parts:
            if part.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(part.pid, signal.SIGKILL)
        os.close(self._life_write)
        deadline = time.monotonic() + STOP_GRACE
        while time.monotonic() < deadline:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                select.select([], [], [], 0.01)
        Path(self.plan.notify_socket).unlink(missing_ok=True)
        if self.plan.scratch_dir:
            shutil.rmtree(self.plan.scratch_dir, ignore_errors=True)
        for parent in map(Path, self.plan.control_groups):
            # Only folders can be removed there, and only empty groups.
            for group in (*parent.glob("*/"), parent):
                with contextlib.suppress(OSError):
                    group.rmdir()


def _tail(path: str, lines: int = 12) -> str:
    try:
        with open(path, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 8192))
            return b"\n".join(log.read().splitlines()[-lines:]).decode(errors="replace")
    except OSError as error:
        return f"(no log: {os.strerror(error.errno or errno.EIO)})"


def main(argv: list[str]) -> int:
    plan = Plan.read(argv[0])
    try:
        return Supervisor(plan).run()
    except AlreadyRunning:
        pid = Path(plan.data_dir, "kedge.pid")
        holder = pid.read_text().strip() if pid.exists() else "unknown"
        print(
            f"Kedge already runs on {plan.data_dir} (pid {holder})."
            f" Fix: use it, end it with `kedge down --data-dir {plan.data_dir}`,"
            " or give another --data-dir.",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
