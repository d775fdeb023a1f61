"""How a gateway whose pod is deleted ends: nothing that it was asked is cut off.

Its Envoy goes on answering, and asks each client to come back by another connection, until the rest
of the cluster has heard that no request shall come here any more, and the last one has ended.
"""

from __future__ import annotations

import logging
import re

from kedge.gateway.admin import AdminError, EnvoyAdmin
from kedge.gateway.members import Members
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

NOTICE_SECONDS = 3.0
"""Until the API says that our pod is being deleted, if that is why we are to end."""
SPREAD_SECONDS = 5.0
"""Until every node has heard that no request shall come here any more."""
LOOK_SECONDS = 0.2
_IN_FLIGHT = r"/stats?filter=^http\.(outside|pods|pods-inner)\.downstream_rq_active$"
_VALUE = re.compile(rb": (\d+)")


class Leaving:
    """The end of one replica.

    Args:
        drain_seconds: how long requests may take to end.
    """

    def __init__(
        self,
        members: Members,
        admin: EnvoyAdmin,
        *,
        drain_seconds: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._members = members
        self._admin = admin
        self._drain_seconds = drain_seconds
        self._clock = clock

    async def wait(self) -> bool:
        """Until this replica may end; whether its Envoy is to end with it."""
        if not await self._is_deleted():
            return False
        log.info("this pod is being deleted: requests in flight go on")
        began = self._clock.monotonic()
        while self._clock.monotonic() - began < self._drain_seconds:
            active = await self._in_flight()
            spread = self._clock.monotonic() - began >= SPREAD_SECONDS
            if active is None or (spread and not active):
                log.info("no request is in flight any more")
                return True
            await self._clock.sleep(LOOK_SECONDS)
        log.warning("requests are in flight after %.0f s; they end with us", self._drain_seconds)
        return True

    async def _is_deleted(self) -> bool:
        """Whether our pod is; if not, only this process is to be started anew."""
        if self._members.mine is None:
            return False
        deadline = self._clock.monotonic() + NOTICE_SECONDS
        while self._clock.monotonic() < deadline:
            mine = self._members.mine
            if mine is None or mine.terminating:
                return True
            await self._clock.sleep(LOOK_SECONDS)
        return False

    async def _in_flight(self) -> int | None:
        """Requests that Envoy has; None where there is no Envoy any more."""
        try:
            # Answers now say that the connection is closed after them.
            await self._admin.post("/healthcheck/fail")
            found = await self._admin.get(_IN_FLIGHT)
        except AdminError as error:
            return None if error.away else 1
        return sum(int(value) for value in _VALUE.findall(found))
