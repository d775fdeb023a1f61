"""A cluster to install into, and what can go wrong there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kedge.cluster.base import Cluster
from kedge.lib.errors import KedgeError

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
