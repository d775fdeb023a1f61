"""A cluster to install into, and what can go wrong there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from kedge.cluster.base import Cluster
from kedge.cluster.errors import TooManyRequests, Unavailable
from kedge.lib.clock import Clock
from kedge.lib.errors import KedgeError

T = TypeVar("T")

INSTALLER = "kedge-install"
"""Field manager of what an installation applies."""

Tell = Callable[[str], None]
"""Is told what happens, line by line."""


class Target(Cluster, Protocol):
    """A cluster that also answers what is no object."""

    async def read(self, path: str) -> Any: ...


class InstallError(KedgeError):
    """An installation, or its removal, that cannot go on."""

    reason = "InstallFailed"


_TRIES, _PAUSE = 20, 0.5


async def patiently(call: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """What the call gives; again for a while when the API server is busy.

    It is for a moment whenever a definition comes or goes.
    """
    for _ in range(_TRIES - 1):
        try:
            return await call()
        except (TooManyRequests, Unavailable):
            await clock.sleep(_PAUSE)
    return await call()
