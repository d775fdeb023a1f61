"""Asks the pods that requests wait for whether they are ready, before the kubelet has looked.

The kubelet looks once a second, and what it sees takes its way through the API server and the
EndpointSlices. A pod's address is known from its sandbox on, so whoever holds requests for it can
ask the same question more often, as long as they wait. Where the pod says yes requests go to it,
through the activator, until its endpoint is ready and Envoy knows it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import aiohttp
from yarl import URL

from kedge.gateway.activator import Activator, Expected, accepts_connection
from kedge.gateway.ir import Endpoint
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
"""Between two questions to the same pod."""
ANSWER_SECONDS = 0.5
"""Longest wait for an answer; the kubelet waits longer, and it does look too."""
AT_ONCE = 64
"""Pods that are asked at the same time."""

Asks = Callable[[str, str], Awaitable[bool]]
"""Asks the pod at an address by a probe: `http://pod:PORT/PATH` or `tcp://pod:PORT`."""


class Scout:
    """Asks for one activator.

    Args:
        ask: asks a pod; None asks over the network.
    """

    def __init__(
        self, activator: Activator, *, clock: Clock = SYSTEM_CLOCK, ask: Asks | None = None
    ) -> None:
        self._activator = activator
        self._clock = clock
        self._ask = ask

    async def run(self) -> None:
        """Until cancelled."""
        if self._ask is not None:
            await self._look(self._ask)
            return
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await self._look(lambda address, probe: says_ready(session, address, probe))

    async def _look(self, ask: Asks) -> None:
        while True:
            expected = await self._activator.expected()
            chosen = random.sample(expected, min(len(expected), AT_ONCE))
            found = await asyncio.gather(*(ask(one.address, one.probe) for one in chosen))
            for one, ready in zip(chosen, found, strict=True):
                self._hear(one, ready)
            await self._clock.sleep(LOOK_SECONDS)

    def _hear(self, one: Expected, ready: bool) -> None:
        log.debug("%s: the pod at %s is %s", one.key, one.address, "ready" if ready else "not yet")
        self._activator.hear(one, ready=ready)


async def says_ready(session: aiohttp.ClientSession, address: str, probe: str) -> bool:
    """Whether the pod answers as the kubelet wants it to: with a status from 200 to 399, or, for
    `tcp`, at all. A probe that says something else than these is answered by nobody."""
    try:
        url = URL(probe).with_host(address)
        if url.scheme == "tcp" and url.port is not None:
            return await accepts_connection(Endpoint(address, url.port))
        if url.scheme != "http":
            return False
        async with session.get(url, allow_redirects=False) as answer:
            return answer.status < 400
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False
