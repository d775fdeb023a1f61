"""Who gets which pod, and when: requests that wait for a pod, and slots of those that have few.

One queue a revision, in arrival order, whatever port a request is for. A revision without a limit
lets all go as soon as it has a pod; one with `containerConcurrency` gives each a slot of a pod, and
the slot comes back when the request ends. Revisions take turns, so that a thousand requests that
wake together stop no other.

Nothing here speaks to Envoy: `asking` does, and calls this.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from kedge.gateway.ir import Endpoint, Endpoints, Hold
from kedge.gateway.revision import Ask, Refused, Revision, key_of
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

TURN = 32
"""Requests that a revision lets go before another one has its turn."""
AGAIN_SECONDS = 0.5
"""A request that comes again within this time of its end is the same one, sent once more."""
SETTLE_SECONDS = 1.0
"""Until Envoy has surely taken in a change of pods."""
DOUBT_SECONDS = 0.1
"""From one try of a pod that takes no connection to the next."""
CONNECT_SECONDS = 1.0
WAKE_SECONDS = 1.0
"""A revision that cannot start is asked to again at most this often."""
AGAIN_EARLY_SECONDS = 1.0
"""Until a pod that said it is ready is asked again, if the kubelet has not seen it by then."""


Accepts = Callable[[Endpoint], Awaitable[bool]]


class Expected(NamedTuple):
    """A pod to be asked whether it is ready: of which service, where, and how."""

    key: str
    address: str
    probe: str


class Activator:
    """The queues and slots of all activatable revisions.

    Attributes:
        lost: pods that may take no connection, and are passed over until they do.
        inherited: requests in pods that an earlier activator sent there.
        elsewhere: the same of other replicas' earlier activators.
        may_give: whether slots of a service are ours to give now; asked where they are limited.
    """

    def __init__(
        self, *, max_held: int, clock: Clock = SYSTEM_CLOCK, accepts: Accepts | None = None
    ) -> None:
        self.lost: dict[str, Endpoint] = {}
        self.inherited: Mapping[str, int] = {}
        self.elsewhere: Mapping[str, int] = {}
        self.may_give: Callable[[str], bool] = lambda key: True
        self._max_held = max_held
        self._clock = clock
        self._revisions: dict[str, Revision] = {}
        self._asked: set[str] = set()
        self._busy: Counter[str] = Counter()
        self._users: dict[str, set[str]] = {}
        self._turns: OrderedDict[str, None] = OrderedDict()
        self._scheduled = False
        self._wakers: list[Callable[[str], None]] = []
        self._returned = asyncio.Event()
        self._accepts = accepts or accepts_connection
        self._doubts = asyncio.Event()
        self._ended: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._early: set[str] = set()
        self._expecting = asyncio.Event()

    def on_wake(self, callback: Callable[[str], None]) -> None:
        """Call `callback("namespace/service")` at once when a request finds no pod."""
        self._wakers.append(callback)

    # What the gateway knows of pods

    def update(self, endpoints: Endpoints) -> None:
        """The endpoints of a cluster as they are now."""
        key = key_of(endpoints.cluster)
        hold = endpoints.hold
        if hold is None:
            known = self._revisions.get(key)
            if known is None or not known.waiting.get(endpoints.cluster):
                self.forget(endpoints.cluster)
                return
            # No more come to wait; those that do are not to suffer for it.
            hold = replace(known.hold, concurrency=0, cannot_start="")
        revision = self._find(key)
        before = revision.addresses()
        revision.hold = hold
        self._take(revision, endpoints)
        self._note_addresses(revision, before)
        if not revision.addresses() and revision.held:
            self._wake(revision)
        if revision.hold.cannot_start and not revision.addresses():
            self._refuse_all(revision)
        self._schedule(key)

    def forget(self, cluster: str) -> None:
        """The cluster is gone, or is not held for any more."""
        revision = self._revisions.get(key_of(cluster))
        if revision is None:
            return
        before = revision.addresses()
        revision.drop(cluster)
        self._note_addresses(revision, before)
        for ask in revision.waiting.pop(cluster, ()):
            _refuse(ask, Refused(f"Service {revision.hold.title or revision.key} is gone."))
        if not revision.endpoints:
            del self._revisions[revision.key]
            self._early.discard(revision.key)

    def find(self, cluster: str) -> Revision | None:
        return self._revisions.get(key_of(cluster))

    def _find(self, key: str) -> Revision:
        if key not in self._revisions:
            self._revisions[key] = Revision(key, self._clock.monotonic())
        return self._revisions[key]

    def _take(self, revision: Revision, endpoints: Endpoints) -> None:
        if revision.take(endpoints):
            # Envoy hears of them only now.
            revision.changed = self._clock.monotonic()
            self._note_early(revision)
        if endpoints.coming and revision.held:
            self._expecting.set()

    def _note_addresses(self, revision: Revision, before: set[str]) -> None:
        now = revision.addresses()
        if now != before:
            revision.changed = self._clock.monotonic()
        for address in before - now:
            self._users[address].discard(revision.key)
            if not self._users[address]:
                del self._users[address]
                self.lost.pop(address, None)
                self._tell_returned()
        for address in now - before:
            self._users.setdefault(address, set()).add(revision.key)

    # What requests ask

    def ask(self, cluster: str, id: bytes = b"") -> Ask:
        """A request came through that cluster; `release` it when it has ended or gone away.

        One that comes again with the same `id`, at once, found that its pod takes no connection.
        """
        ask = Ask(cluster, id, asyncio.get_running_loop().create_future())
        revision = self.find(cluster)
        refusal = self._refusal(revision, cluster)
        if revision is None or refusal is not None:
            _refuse(ask, refusal or Refused(""))
            return ask
        self._doubt(revision, id)
        if not revision.addresses():
            self._wake(revision)
        revision.waiting.setdefault(cluster, OrderedDict())[ask] = None
        self._asked.add(revision.key)
        self._let_go(revision, 1)
        if revision.held and any(revision.coming.values()):
            self._expecting.set()
        return ask

    def adopt(self, cluster: str, address: str) -> Ask:
        """A request is in that pod already; `release` it when it has ended."""
        ask = Ask(cluster, b"", asyncio.get_running_loop().create_future())
        ask.address = address
        self._busy[address] += 1
        return ask

    def look_again(self) -> None:
        """`may_give` may say something else now."""
        for key in self._revisions:
            self._schedule(key)

    def release(self, ask: Ask) -> None:
        """The request has ended: answered, failed, or gone while it waited."""
        if ask.address:
            if ask.id:
                self._ended[ask.id] = (self._clock.monotonic(), ask.address)
            self._give_back(ask.address)
            ask.address = ""
        else:
            revision = self.find(ask.cluster)
            if revision is not None and ask.cluster in revision.waiting:
                revision.waiting[ask.cluster].pop(ask, None)
        ask.placed.cancel()

    def held(self) -> dict[str, int]:
        """Requests that wait, by `namespace/service`; without those that have none."""
        found = {key: self._revisions[key].held for key in self._asked if key in self._revisions}
        counts = {key: count for key, count in found.items() if count}
        # Of thousands of revisions few are asked: the others are not gone through.
        self._asked.intersection_update(counts)
        return counts

    def busy(self, address: str) -> int:
        """Requests in that pod, as far as they came by here."""
        earlier = self.inherited.get(address, 0) + self.elsewhere.get(address, 0)
        return self._busy[address] + earlier

    async def drained(self, address: str) -> None:
        """Wait until the pod is named no more and what was sent to it has ended."""
        while address in self._users or self.busy(address):
            await self._returned.wait()

    def pods_changed(self, addresses: Iterable[str]) -> None:
        """`lost`, `inherited` or `elsewhere` changed for these pods."""
        for address in addresses:
            for key in self._users.get(address, ()):
                self._schedule(key)
        self._tell_returned()

    def _refusal(self, revision: Revision | None, cluster: str) -> Refused | None:
        if revision is None or cluster not in revision.endpoints:
            return Refused(f"Service {key_of(cluster)} is gone.")
        if revision.hold.cannot_start and not revision.addresses():
            self._wake(revision)
            return _cannot_start(revision.hold)
        if revision.held >= self._max_held:
            return Refused(
                f"Service {revision.hold.title}: {revision.held} requests wait for a pod"
                " already. Fix: ask again later, or raise maxReplicas of the component.",
                retry_after=1,
            )
        return None

    def _refuse_all(self, revision: Revision) -> None:
        waiting, revision.waiting = revision.waiting, {}
        for asks in waiting.values():
            for ask in asks:
                _refuse(ask, _cannot_start(revision.hold))

    def _wake(self, revision: Revision) -> None:
        now = self._clock.monotonic()
        repeated = revision.held or revision.hold.cannot_start
        if repeated and revision.woken is not None and now - revision.woken < WAKE_SECONDS:
            return
        revision.woken = now
        for callback in self._wakers:
            callback(revision.key)

    # Pods that are there no more, though nobody has said so yet

    def _doubt(self, revision: Revision, id: bytes) -> None:
        """Pass over pods that, by this request, may take no connection."""
        now = self._clock.monotonic()
        while self._ended and next(iter(self._ended.values()))[0] < now - AGAIN_SECONDS:
            self._ended.popitem(last=False)
        doubted = {self._ended.pop(id)[1]} if id in self._ended else set()
        if not revision.hold.concurrency and now - revision.changed > SETTLE_SECONDS:
            # Envoy has had these pods for a while, and asks nevertheless.
            doubted |= revision.addresses() - revision.early.keys()
        for endpoints in revision.endpoints.values():
            self.lost.update((end.address, end) for end in endpoints if end.address in doubted)
        if self.lost:
            self._doubts.set()

    async def check_doubts(self) -> None:
        """Try the pods that are in doubt until they take a connection or are gone; for ever."""
        while True:
            if not self.lost:
                await self._doubts.wait()
            self._doubts.clear()
            tried = list(self.lost.items())
            found = await asyncio.gather(*(self._accepts(end) for _, end in tried))
            good = [address for (address, _), good in zip(tried, found, strict=True) if good]
            for address in good:
                self.lost.pop(address, None)
            self.pods_changed(good)
            if self.lost and not self._doubts.is_set():
                await self._clock.sleep(DOUBT_SECONDS)

    # Pods that are ready, though the kubelet has not looked yet

    async def expected(self) -> list[Expected]:
        """The coming pods to ask now; waits until requests wait for such."""
        while not (self._early or self._list_expected()):
            self._expecting.clear()
            await self._expecting.wait()
        return self._list_expected()

    def _list_expected(self) -> list[Expected]:
        now = self._clock.monotonic()
        return [
            Expected(key, address, revision.hold.probe)
            for key in self._asked | self._early
            if (revision := self._revisions.get(key)) is not None and revision.hold.probe
            for address in revision.expected()
            if (revision.early[address] <= now if address in revision.early else revision.held)
        ]

    def hear(self, one: Expected, *, ready: bool) -> None:
        """What it said. It is asked again now and then, until the kubelet has seen it too."""
        revision = self._revisions.get(one.key)
        if revision is None or one.address not in revision.expected():
            return
        before, again = revision.addresses(), self._clock.monotonic() + AGAIN_EARLY_SECONDS
        news = revision.hear(one.address, ready=ready, again=again)
        self._note_early(revision)
        if news:
            self._note_addresses(revision, before)
            self._schedule(one.key)

    def _note_early(self, revision: Revision) -> None:
        if revision.early:
            self._early.add(revision.key)
        else:
            self._early.discard(revision.key)

    # Who goes next

    def _give_back(self, address: str) -> None:
        self._busy[address] -= 1
        if self._busy[address] <= 0:
            del self._busy[address]
            self._tell_returned()
        for key in self._users.get(address, ()):
            self._schedule(key)

    def _tell_returned(self) -> None:
        returned, self._returned = self._returned, asyncio.Event()
        returned.set()

    def _schedule(self, key: str) -> None:
        if not self._revisions[key].held:
            return
        self._turns[key] = None
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._take_turns)

    def _take_turns(self) -> None:
        """Each revision that can, lets some go; what is left has its turn after other events."""
        self._scheduled = False
        turns, self._turns = self._turns, OrderedDict()
        for key in turns:
            revision = self._revisions.get(key)
            if revision is not None and self._let_go(revision, TURN):
                self._schedule(key)

    def _let_go(self, revision: Revision, limit: int) -> bool:
        """Send up to `limit` of those that wait to pods; whether more might go."""
        stuck: set[str] = set()
        for _ in range(limit):
            while (ask := revision.first(stuck)) is not None:
                endpoint = self._choose(revision, ask.cluster)
                if endpoint is not None:
                    break
                stuck.add(ask.cluster)
            else:
                return False
            del revision.waiting[ask.cluster][ask]
            if ask.placed.done():
                # Whoever asked goes away at this moment.
                continue
            ask.address = endpoint.address
            self._busy[endpoint.address] += 1
            ask.placed.set_result(endpoint)
        return True

    def _choose(self, revision: Revision, cluster: str) -> Endpoint | None:
        """The pod with the fewest requests, if it may have one more."""
        limit = revision.hold.concurrency
        if limit and not self.may_give(revision.key):
            return None
        best, least = None, limit or 1 << 62
        for endpoint in revision.endpoints[cluster]:
            if endpoint.address not in self.lost:
                busy = self.busy(endpoint.address)
                if busy < least:
                    best, least = endpoint, busy
        return best


async def accepts_connection(endpoint: Endpoint) -> bool:
    """Whether the pod takes a connection."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _cannot_start(hold: Hold) -> Refused:
    return Refused(f"Service {hold.title} cannot start: {hold.cannot_start}")


def _refuse(ask: Ask, refusal: Refused) -> None:
    if not ask.placed.done():
        ask.placed.set_exception(refusal)
        # Whoever asked may have gone away meanwhile; then nobody reads it.
        ask.placed.exception()
