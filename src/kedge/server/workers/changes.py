"""A model is loaded or unloaded by all processes, or by none.

First everyone loads beside what is served; when all have, everyone puts the new model in its
place. Who asked is answered after that. A process that dies meanwhile is no obstacle: the one that
takes its place begins with what the others hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kedge.lib.errors import KedgeError
from kedge.server.workers.seat import Held
from kedge.server.workers.wire import Gone, Peer, Refused


class Changes:
    """One change at a time.

    Attributes:
        epoch: grows with each change; who began in an earlier one holds the wrong models.
        lock: held while things change.
    """

    def __init__(self, peers: Callable[[], Sequence[Peer]]) -> None:
        self.epoch = 0
        self.lock = asyncio.Lock()
        self._peers = peers
        self._held: Held | None = None

    @property
    def held(self) -> Held | None:
        """What a process that begins now has to hold; None: what the command line says."""
        return self._held

    async def load(self, name: str) -> None:
        """Raises what the first that failed said; then nothing has changed anywhere."""
        async with self.lock:
            before = await self._listed()
            await self._everyone("prepare", name, undo="abort")
            await self._everyone("commit", name)
            self._note(before, loaded=name)

    async def unload(self, name: str) -> None:
        async with self.lock:
            before = await self._listed()
            await self._everyone("remove", name)
            self._note(before, unloaded=name)

    async def _everyone(self, what: str, name: str, *, undo: str = "") -> None:
        peers = self._peers()
        outcomes = await asyncio.gather(
            *(peer.ask(what, name) for peer in peers), return_exceptions=True
        )
        failures = [one for one in outcomes if isinstance(one, Refused)]
        if failures and undo:
            await asyncio.gather(*(peer.ask(undo, name) for peer in peers), return_exceptions=True)
        if failures:
            raise failures[0]
        if all(isinstance(one, BaseException) for one in outcomes):
            raise Gone("Every worker ended while the model was being changed.")

    async def _listed(self) -> Held:
        """The names before the first change are asked of a worker."""
        if self._held is not None:
            return self._held
        for peer in self._peers():
            try:
                return Held(tuple(await peer.ask("names")), {})
            except KedgeError:
                continue
        raise Gone("No worker is there to be changed.")

    def _note(self, before: Held, *, loaded: str = "", unloaded: str = "") -> None:
        names = [name for name in before.loaded if name != unloaded]
        if loaded and loaded not in names:
            names.append(loaded)
        reasons = {name: why for name, why in before.unloaded.items() if name != loaded}
        if unloaded:
            reasons[unloaded] = "unloaded"
        self._held = Held(tuple(names), reasons)
        self.epoch += 1
