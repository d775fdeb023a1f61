"""The parent's child processes: how they are started, and how they ended."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec

from kedge.server.template import THREADS
from kedge.server.workers.seat import VARIABLE, Seat

_REAP_SECONDS = 5.0


class Processes:
    """Starts the same command again and again, each time for another seat."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._ended: dict[int, int] = {}

    def spawn(self, seat: Seat, files: Iterable[int], threads: int) -> int:
        """The pid of a new process, which has `files` under the same numbers."""
        inherited = [*files]
        env = os.environ | dict.fromkeys(THREADS, str(threads))
        env[VARIABLE] = msgspec.json.encode(seat).decode()
        for number in inherited:
            os.set_inheritable(number, True)
        try:
            return os.posix_spawn(self._command[0], self._command, env)
        finally:
            for number in inherited:
                os.set_inheritable(number, False)

    def reap(self) -> None:
        """Takes note of those that have ended, orphans of the workers among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended[pid] = status

    async def ending(self, pid: int) -> str:
        """How a process that is about to end did so, in words. One that does not is killed."""
        end = time.monotonic() + _REAP_SECONDS
        self.reap()
        while pid not in self._ended:
            if time.monotonic() > end:
                kill(pid)
            await asyncio.sleep(0.005)
            self.reap()
        status = self._ended.pop(pid)
        if os.WIFSIGNALED(status):
            return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"ended with exit code {os.waitstatus_to_exitcode(status)}"


def kill(pid: int) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def threads_each(workers: int, env: Mapping[str, str], cores: int) -> int:
    """How many threads one worker's framework may use: its part of what the server has."""
    given = env.get("OMP_NUM_THREADS", "")
    return max(1, (int(given) if given.isdecimal() else cores) // workers)
