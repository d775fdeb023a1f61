"""Warm templates: one process per runtime with its framework imported, from which pods are forked.

A fork takes some milliseconds where a new process imports for a second and more, and what was
imported is in memory once. A template is started when the first pod asks for its runtime (which
waits: it would import the same), kept while it is used now and then, and started anew when it dies
or its files change; until it is there again, pods start by exec. What was in use before a restart
is started again at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedge.cluster.local.node import processes, shim
from kedge.cluster.local.node.env import THREAD_VARIABLES
from kedge.cluster.local.node.sandbox import (
    Sandbox,
    SandboxError,
    Sandboxes,
    Template,
    TemplateRefused,
)
from kedge.lib.backoff import Backoff
from kedge.lib.clock import Clock

log = logging.getLogger(__name__)

_SERVE = ("-m", "kedge", "serve")
_REQUEST_LIMIT = 64 * 1024
"""Bytes of arguments and environment that a template is told; what has more starts by exec."""
_RENEWAL = Backoff(initial=1.0, limit=300.0)
_LOOK = 60.0
_SCARCE = 0.05
"""Share of the machine's memory; with less available, templates are let go."""


@dataclass(frozen=True)
class Imported:
    """What a template has to be to stand for a container: everything that decides its imports.

    Attributes:
        env: what the template itself is started with.
    """

    interpreter: str
    runtime: str
    env: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, argv: list[str], interpreter: str, env: Mapping[str, str]) -> Imported | None:
        """None for a program that is no server of ours."""
        runtime = argv[4] if len(argv) > 4 else ""
        if argv[0] != interpreter or tuple(argv[1:4]) != _SERVE or not runtime.isidentifier():
            return None
        held = {**env, **dict.fromkeys(THREAD_VARIABLES, "1")}
        return cls(interpreter, runtime, tuple(sorted(held.items())))

    @property
    def command(self) -> list[str]:
        return [self.interpreter, *_SERVE, self.runtime, "--template", shim.__file__]


@dataclass
class Warm:
    """One template and its use."""

    imported: Imported
    template: Template
    used: float
    forks: int = 0
    failure: str = ""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self.template.pid if self.settled.is_set() and not self.failure else 0


class Templates:
    """The warm templates of one node.

    Args:
        data_dir: remembers what is in use, and has the templates' logs.
        most: templates kept at once; the one unused for longest gives way.
        idle_seconds: a template unused for so long is let go.

    Attributes:
        changed: set whenever `describe` tells something new.
    """

    def __init__(
        self, sandboxes: Sandboxes, data_dir: Path, clock: Clock, *, most: int, idle_seconds: float
    ) -> None:
        self._sandboxes = sandboxes
        self._file = data_dir / "templates.json"
        self._logs = data_dir / "logs"
        self._clock = clock
        self._most = most
        self._idle = idle_seconds
        self._warm: dict[Imported, Warm] = {}
        self.changed = asyncio.Event()

    async def create(
        self,
        uid: str,
        memory_volumes: list[dict[str, Any]],
        imported: Imported | None,
        program: Mapping[str, Any],
    ) -> Sandbox:
        """A new, empty pod; forked from a warm template where one stands for its program."""
        warm = await self._choose(imported, program)
        if warm is not None:
            try:
                sandbox = await self._sandboxes.create(uid, memory_volumes, warm.template, program)
            except TemplateRefused as refusal:
                log.info("pod %s starts by exec: %s", uid, refusal)
            except SandboxError as error:
                log.warning("template of %s: %s", warm.imported.runtime, error)
            else:
                warm.forks += 1
                self.changed.set()
                return sandbox
        return await self._sandboxes.create(uid, memory_volumes)

    async def _choose(self, imported: Imported | None, program: Mapping[str, Any]) -> Warm | None:
        if imported is None or self._most < 1 or len(json.dumps(program)) > _REQUEST_LIMIT:
            return None
        warm = self._want(imported)
        await warm.settled.wait()
        return warm if warm.pid else None

    def _want(self, imported: Imported) -> Warm:
        warm = self._warm.get(imported)
        if warm is None:
            template = Template(
                imported.command,
                dict(imported.env),
                self._sandboxes.life_fd,
                self._sandboxes.namespaces,
                self._logs / f"template-{imported.runtime}.log",
            )
            warm = self._warm[imported] = Warm(imported, template, self._clock.monotonic())
            warm.keeping = asyncio.create_task(self._keep(warm), name=f"keep:{imported.runtime}")
            self._bound()
            self._remember()
        warm.used = self._clock.monotonic()
        return warm

    async def _keep(self, warm: Warm) -> None:
        """Have it running, for as long as it is wanted."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await warm.template.open()
                warm.failure = ""
                warm.settled.set()
                self.changed.set()
                await warm.template.wait()
                log.info("template of %s has ended; it is started again", warm.imported.runtime)
            except (SandboxError, OSError) as error:
                log.warning("no template of %s: %s", warm.imported.runtime, error)
                warm.failure = str(error)
                warm.settled.set()
                self.changed.set()
            # One that worked for a while died by accident: nobody need wait for the next.
            failures = 0 if self._clock.monotonic() - began > _LOOK else failures + 1
            if failures > 1:
                await self._clock.sleep(_RENEWAL.delay(failures - 1))

    # What is kept.

    async def run(self) -> None:
        """Start what was in use before, and let go of what is used no more."""
        for imported in self._read():
            self._want(imported)
        while True:
            await self._clock.sleep(_LOOK)
            now = self._clock.monotonic()
            for warm in list(self._warm.values()):
                if now - warm.used > self._idle:
                    self._let_go(warm)
            if self._warm and _available() < _SCARCE:
                self._let_go(min(self._warm.values(), key=lambda warm: warm.used))

    def _bound(self) -> None:
        while len(self._warm) > self._most:
            self._let_go(min(self._warm.values(), key=lambda warm: warm.used))

    def _let_go(self, warm: Warm) -> None:
        del self._warm[warm.imported]
        if warm.keeping is not None:
            warm.keeping.cancel()
        warm.failure = "it was let go"
        warm.settled.set()
        warm.template.forget()
        self.changed.set()
        self._remember()

    async def close(self) -> None:
        """End all templates; what they forked goes on."""
        for warm in list(self._warm.values()):
            if warm.keeping is not None:
                warm.keeping.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await warm.keeping
            await warm.template.close()

    def _remember(self) -> None:
        entries = [
            [warm.imported.interpreter, warm.imported.runtime, warm.imported.env]
            for warm in self._warm.values()
        ]
        with contextlib.suppress(OSError):
            draft = self._file.with_suffix(".new")
            draft.write_text(json.dumps(entries))
            draft.replace(self._file)

    def _read(self) -> list[Imported]:
        try:
            return [
                Imported(interpreter, runtime, tuple((name, value) for name, value in env))
                for interpreter, runtime, env in json.loads(self._file.read_text())
            ][-self._most :]
        except (OSError, ValueError, TypeError):
            return []

    def describe(self) -> list[dict[str, Any]]:
        """For people: what runs, its memory in bytes, the pods forked from it."""
        return [
            {
                "runtime": warm.imported.runtime,
                "pid": warm.pid,
                "memory": processes.resident([warm.pid]) if warm.pid else 0,
                "forks": warm.forks,
                **({"failure": warm.failure} if warm.failure else {}),
            }
            for warm in self._warm.values()
        ]


def _available() -> float:
    """The share of the machine's memory that can be had."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1.0
    amounts = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return amounts.get("MemAvailable", 1) / max(1, amounts.get("MemTotal", 1))
