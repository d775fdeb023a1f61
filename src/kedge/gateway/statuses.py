"""Keeps the statuses of Gateway and GatewayClass: one replica writes them, and nothing at rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from kedge.cluster.base import Cluster
from kedge.cluster.errors import ApiError
from kedge.gateway.addresses import Addresses
from kedge.gateway.classstatus import ClassStatus
from kedge.gateway.ir import CompiledRoute
from kedge.gateway.ownstatus import GatewayStatus
from kedge.gateway.served import ServedGateway
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.informer import Informer
from kedge.settings.gateway import GatewaySettings

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""Of the routes that use a listener nobody tells."""
GATHER_SECONDS = 0.5
"""A change waits for those that come with it; and should another controller write the same status,
the two do not do it all the time."""


async def keep_statuses(
    cluster: Cluster,
    settings: GatewaySettings,
    served: ServedGateway,
    routes: Callable[[], Iterable[CompiledRoute]],
    writes: Callable[[], bool],
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Until cancelled.

    Args:
        routes: gives the routes of the Gateway.
        writes: whether we are the replica that writes.
    """
    addresses = Addresses(cluster, settings, clock)
    own = GatewayStatus(cluster, served, addresses, routes, clock)
    async with asyncio.TaskGroup() as group:
        group.create_task(keep_looking("Gateway", own.look, writes, own.wakers, clock))
        for informer in own.informers:
            group.create_task(informer.run())
        # Who serves one namespace alone may not read what belongs to none.
        if not settings.served_namespace:
            classes = ClassStatus(cluster, settings.gateway, clock)
            group.create_task(
                keep_looking("GatewayClass", classes.look, writes, classes.informers, clock)
            )
            for informer in classes.informers:
                group.create_task(informer.run())


async def keep_looking(
    what: str,
    look: Callable[[], Awaitable[None]],
    writes: Callable[[], bool],
    wakers: Iterable[Informer],
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Look again and again, and soon after one of the wakers has something new, if we are the
    replica that writes; what keeps it from being written is logged when it begins and when it
    becomes another."""
    changed = asyncio.Event()
    for informer in wakers:
        informer.on_change(lambda *_: changed.set())
    told = ""
    while True:
        changed.clear()
        try:
            if writes():
                await look()
            told = ""
        except (ApiError, OSError) as error:
            if str(error) != told:
                log.info("status of the %s: %s", what, error)
            told = str(error)
        await _first(changed.wait(), clock.sleep(LOOK_SECONDS))
        await clock.sleep(GATHER_SECONDS)


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Until the first of them is done."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
