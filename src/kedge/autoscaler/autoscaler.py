"""The loop: one for all Deployments, every two seconds, and at once for what is woken.

What rests costs nothing: a Deployment is looked at only while it has requests, while something
about it is under way, or when it changes. A report that names ten of ten thousand costs ten.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT
from kedge.autoscaler.explain import explain
from kedge.autoscaler.kpa import GRANULARITY
from kedge.autoscaler.parameters import AUTOSCALED_LABEL, parse_parameters
from kedge.autoscaler.report import describe
from kedge.autoscaler.target import Target, key_of
from kedge.autoscaler.traffic import Traffic, is_demand
from kedge.autoscaler.wire import Goodbye, Message, Report, Wake
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import NotFound
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile import Controller, Informer, Key, Result
from kedge.settings.autoscaler import CONFIG_MAP_NAME, AutoscalerConfig
from kedge.settings.serving import ConfigError

log = logging.getLogger(__name__)

TICK = GRANULARITY
FIELD_MANAGER = "kedge-autoscaler"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
CHUNK = 64
"""Deployments looked at in one go: whoever shares our event loop has work of its own."""


class Autoscaler:
    """Scales every Deployment labelled `serving.kedge.dev/autoscaled: "true"`.

    Args:
        namespace: where the ConfigMap `config-autoscaler` is.

    Attributes:
        traffic: what the gateways have reported.
        config_problem: why that ConfigMap is not in force; empty when it is, or is not there.
    """

    def __init__(
        self, cluster: Cluster, *, namespace: str = "kedge", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._config = AutoscalerConfig()
        self.config_problem = ""
        self._configs = Informer(cluster, CONFIG_MAP, namespace=namespace, clock=clock)
        self._deployments = Informer(
            cluster, DEPLOYMENT, labels=f"{AUTOSCALED_LABEL}=true", clock=clock
        )
        self._targets: dict[Key, Target] = {}
        self._by_key: dict[str, set[Key]] = {}
        self._awake: dict[Key, None] = {}
        self._writes = Controller("autoscaler", self._write, workers=8, clock=clock)
        self.traffic = Traffic(self._record)
        self._started = False

    async def run(self) -> None:
        """Until cancelled."""
        self._configs.on_change(self._on_config)
        self._deployments.on_change(self._on_deployment)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._configs.run())
            await self._configs.synced.wait()
            tasks.create_task(self._deployments.run())
            await self._deployments.synced.wait()
            self._started = True
            tasks.create_task(self._writes.run())
            tasks.create_task(self._tick())

    # What the gateways say

    def connected(self, gateway: str) -> None:
        self.traffic.connect(gateway)

    def disconnected(self, gateway: str) -> None:
        self.traffic.disconnect(gateway, self._clock.monotonic())

    def take(self, gateway: str, message: Message) -> None:
        """A gateway's message."""
        match message:
            case Report():
                self._take_report(gateway, message)
            case Wake():
                self.traffic.take_wake(gateway, message)
                self._attend(message.key)
            case Goodbye():
                self.traffic.forget(gateway)

    def _take_report(self, gateway: str, report: Report) -> None:
        self.traffic.take(gateway, report, self._clock.monotonic())
        for key, signal in report.revisions.items():
            if is_demand(signal):
                self._attend(key)

    def _record(self, key: str, seconds: range, in_flight: float, rate: float) -> None:
        for target in self._named(key):
            target.cover(seconds[0] - 1)
            target.record(seconds, in_flight, rate)

    def _attend(self, key: str) -> None:
        """Look at who is asked for; decide at once where a request waits for a first pod."""
        for target in self._named(key):
            self._awake[target.place] = None
            if target.ready == 0:
                self._decide(target)

    def _named(self, key: str) -> list[Target]:
        return [self._targets[place] for place in self._by_key.get(key, ())]

    # What the cluster says

    def _on_config(self, type: EventType, obj: Object, old: Object | None) -> None:
        if obj["metadata"]["name"] != CONFIG_MAP_NAME:
            return
        try:
            self._config = (
                AutoscalerConfig()
                if type is EventType.DELETED
                else AutoscalerConfig.from_config_map(obj)
            )
        except ConfigError as error:
            log.error("%s; what held before holds on", error)
            self.config_problem = str(error)
            return
        self.config_problem = ""
        now = self._clock.monotonic()
        for place, target in self._targets.items():
            deployment = self._deployments.get(*place)
            if deployment is not None:
                self._update(target, deployment, now)

    def _on_deployment(self, type: EventType, obj: Object, old: Object | None) -> None:
        place = Key(obj["metadata"]["namespace"], obj["metadata"]["name"])
        now = self._clock.monotonic()
        if type is EventType.DELETED or obj["metadata"].get("deletionTimestamp"):
            self._drop(place)
        elif (target := self._targets.get(place)) is None:
            target = Target(obj, parse_parameters(obj, self._config), now)
            if not self._started:
                target.resume(now)
            self._targets[place] = target
            self._by_key.setdefault(target.key, set()).add(place)
            self._awake[place] = None
            self._warn(target)
        else:
            self._update(target, obj, now)

    def _update(self, target: Target, deployment: Object, now: float) -> None:
        key, problems = target.key, target.parameters.problems
        if not target.update(deployment, parse_parameters(deployment, self._config), now):
            return
        if key != target.key:
            self._unfile(key, target.place)
            self._by_key.setdefault(key_of(deployment), set()).add(target.place)
        if target.parameters.problems != problems:
            self._warn(target)
        self._awake[target.place] = None
        if self._started:
            self._decide(target)

    def _drop(self, place: Key) -> None:
        target = self._targets.pop(place, None)
        if target is not None:
            self._unfile(target.key, place)
            self._awake.pop(place, None)

    def _unfile(self, key: str, place: Key) -> None:
        places = self._by_key[key]
        places.discard(place)
        if not places:
            del self._by_key[key]

    def _warn(self, target: Target) -> None:
        for problem in target.parameters.problems:
            log.warning("Deployment %s: %s", target.place, problem)

    # What is decided

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK)
            await self.look_at_all()

    async def look_at_all(self) -> None:
        """One tick: decide for everything that does not rest."""
        for number, place in enumerate(list(self._awake), 1):
            target = self._targets.get(place)
            if target is None:
                self._awake.pop(place, None)
                continue
            self._decide(target)
            if target.at_rest:
                self._awake.pop(place, None)
            if number % CHUNK == 0:
                await asyncio.sleep(0)

    def _decide(self, target: Target) -> None:
        try:
            self._decide_now(target)
        except Exception as error:
            # One that cannot be decided about must not keep all others from being scaled.
            log.exception("%s", target.place)
            target.failure = f"the last decision failed: {error!r}"
        else:
            target.failure = ""

    def _decide_now(self, target: Target) -> None:
        now = self._clock.monotonic()
        keep = self.traffic.missing(now)
        if not keep:
            target.cover(self.traffic.until)
        in_flight, _, held = self.traffic.latest(target.key)
        step = target.decide(
            now,
            self.traffic.last_second(now),
            max(in_flight, held),
            watched_since=self.traffic.complete_since,
            keep=keep,
        )
        if step.replicas != target.replicas:
            self._writes.enqueue(target.place)

    async def _write(self, place: Key) -> Result | None:
        target = self._targets.get(place)
        if target is None or target.step is None or target.step.replicas == target.replicas:
            return None
        wanted, before = target.step.replicas, target.replicas
        try:
            await self._cluster.scale(
                DEPLOYMENT, place.name, place.namespace, wanted, field_manager=FIELD_MANAGER
            )
        except NotFound:
            return None
        target.replicas = wanted
        log.info("%s: %d -> %d pods: %s", place, before, wanted, explain(target))
        # Somebody may have asked while that was on its way.
        return Result(requeue_after=0.0) if target.step.replicas != wanted else None

    @property
    def awake(self) -> list[Key]:
        """What is looked at every tick."""
        return list(self._awake)

    @property
    def missing(self) -> str:
        """Why no pod goes now, whatever the load; empty when nothing is in the way."""
        return self.traffic.missing(self._clock.monotonic())

    def describe(self, namespace: str = "", service: str = "") -> list[dict[str, Any]]:
        """What is scaled here, why and how; of one namespace, of one InferenceService."""
        now = self._clock.monotonic()
        watched = self.traffic.watched_since(now)
        found = []
        for place, target in sorted(self._targets.items()):
            deployment = self._deployments.get(*place)
            labels = (deployment or {}).get("metadata", {}).get("labels") or {}
            if namespace in ("", place.namespace) and service in ("", labels.get(SERVICE_LABEL)):
                latest = self.traffic.latest(target.key)
                described = describe(target, latest, now, watched)
                component = labels.get("component", "")
                found.append({"service": labels.get(SERVICE_LABEL, ""), "component": component,
                              **described})  # fmt: skip
        return found

    def find(self, place: Key) -> Target | None:
        return self._targets.get(place)
