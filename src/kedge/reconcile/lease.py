"""Which of several processes does the work: the one that holds a Lease.

As in Kubernetes' own controllers, clocks need not agree: a holder is known to be gone when its
lease has not been renewed for as long as it lasts, by the observer's own clock. A holder that could
not renew stops before any other may begin, and gives the lease up when it ends in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC

from kedge.api.scheme import LEASE
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import AlreadyExists, ApiError, Conflict, NotFound
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds, with the values of Kubernetes' own controllers.

    Attributes:
        lasts: others wait this long after the last renewal that they saw.
        renew_within: a holder that has not renewed for this long stops; less than `lasts`.
        retry: between two attempts.
    """

    lasts: float = 15.0
    renew_within: float = 10.0
    retry: float = 2.0


class Leadership:
    """Campaigns for one Lease, and works while it holds it.

    Args:
        identity: of this process; others find the holder by it.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        namespace: str,
        identity: str,
        *,
        times: LeaseTimes = LeaseTimes(),  # frozen
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._times = times
        self._clock = clock
        self._seen = ""
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self.leading = False

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, work, and return when the lease is lost or the work ends.

        The work is cancelled when the lease is lost. Whoever wants to lead again calls anew; a
        process whose state is worth nothing after that ends instead.
        """
        while not await self._try():
            await self._clock.sleep(self._times.retry)
        log.info("%s leads (%s)", self._identity, self._name)
        self.leading = True
        task = asyncio.ensure_future(work())
        keep = asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait({task, keep}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            else:
                log.error("%s lost the lease %s: it stops", self._identity, self._name)
        finally:
            self.leading = False
            for one in (task, keep):
                one.cancel()
            await asyncio.gather(task, keep, return_exceptions=True)
            await self._release()

    async def _keep(self) -> None:
        """Renew until it can no longer be sure to be the only one."""
        while True:
            await self._clock.sleep(self._times.retry)
            left = self._times.renew_within - (self._clock.monotonic() - self._renewed_at)
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    if not await self._try():
                        return
            except TimeoutError:
                return

    async def _try(self) -> bool:
        """One attempt; true while the lease is ours. A failed call leaves what was."""
        started = self._clock.monotonic()
        try:
            held = await self._take(await self._read())
        except (AlreadyExists, Conflict):
            # Another was first: as an attempt that found it held.
            held = False if not self.leading else self._still_sure()
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("lease %s: %s", self._name, error)
            return self._still_sure()
        if held:
            self._renewed_at = started
        return held

    def _still_sure(self) -> bool:
        lapsed = self._clock.monotonic() - self._renewed_at
        return self.leading and lapsed < self._times.renew_within

    async def _read(self) -> Object | None:
        try:
            return await self._cluster.get(LEASE, self._name, self._namespace)
        except NotFound:
            return None

    async def _take(self, lease: Object | None) -> bool:
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            await self._cluster.create(
                LEASE,
                {
                    "apiVersion": LEASE.api_version,
                    "kind": LEASE.kind,
                    "metadata": metadata,
                    "spec": self._spec({}),
                },
            )
            return True
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self._identity and not self._lapsed(lease, spec):
            return False
        await self._cluster.replace(LEASE, {**lease, "spec": self._spec(spec)})
        return True

    def _lapsed(self, lease: Object, spec: Object) -> bool:
        """Whether this very version has been there for as long as it lasts, by our clock."""
        now = self._clock.monotonic()
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen:
            self._seen, self._seen_at = version, now
        lasts = float(spec.get("leaseDurationSeconds") or self._times.lasts)
        return now - self._seen_at >= lasts

    def _spec(self, before: Object) -> Object:
        now = self._clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = before.get("holderIdentity") == self._identity
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._times.lasts),
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours or not before else transitions + 1,
        }

    async def _release(self) -> None:
        """Give the lease up, so that the next need not wait; best effort."""
        try:
            lease = await self._read()
            if lease is None or lease.get("spec", {}).get("holderIdentity") != self._identity:
                return
            spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
            await self._cluster.replace(LEASE, {**lease, "spec": spec})
        except (ApiError, OSError, TimeoutError) as error:
            log.info("lease %s was not given up: %s", self._name, error)
