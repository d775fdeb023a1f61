"""One Deployment as the autoscaler sees it: what it asks for, what it gets, what is decided."""

from __future__ import annotations

import math
from dataclasses import replace

from kedge.autoscaler.kpa import Decider, Decision, Load
from kedge.autoscaler.lifecycle import Lifecycle, Phase, Scene, Step
from kedge.autoscaler.parameters import SERVICE, Parameters
from kedge.autoscaler.windows import Series
from kedge.cluster.base import Object
from kedge.reconcile import Key

_LATE = 2
"""Seconds for which reports may still tell of requests from before."""


def key_of(deployment: Object) -> str:
    """The key under which gateways report on a Deployment: `namespace/private service`."""
    metadata = deployment["metadata"]
    service = (metadata.get("annotations") or {}).get(SERVICE) or f"{metadata['name']}-private"
    return f"{metadata['namespace']}/{service}"


class Target:
    """A Deployment that is scaled here.

    Attributes:
        place: its namespace and name.
        replicas: pods asked for, our own last write included; ready: pods that are ready.
        in_flight, rate: its signals.
        decision: what the load asked for last; step: what was done about it.
        decided_at: when that was.
        failure: why nothing could be decided when that was last tried; else empty.
    """

    def __init__(self, deployment: Object, parameters: Parameters, now: float) -> None:
        metadata = deployment["metadata"]
        self.place = Key(metadata["namespace"], metadata["name"])
        self.key = key_of(deployment)
        self.parameters = parameters
        self.replicas, self.ready = count_pods(deployment)
        self.since = now
        self.decision: Decision | None = None
        self.step: Step | None = None
        self.decided_at = now
        self.failure = ""
        self._make_series()
        self._decider = Decider()
        self.lifecycle = Lifecycle(now, self.ready, self.replicas, proven=parameters.proven)
        self._template = deployment["spec"].get("template")
        self._deaf_until = -1

    def resume(self, now: float) -> None:
        """Take over what was there before this autoscaler."""
        self._decider.resume(now, max(self.ready, self.replicas))

    def update(self, deployment: Object, parameters: Parameters, now: float) -> bool:
        """Take in what is stored now; whether anything changed that matters here."""
        before = (self.replicas, self.ready, self.parameters, self.key)
        windows = (self.parameters.stable_window, self.parameters.panic_window)
        self.parameters, self.key = parameters, key_of(deployment)
        self.replicas, self.ready = count_pods(deployment)
        let_go = before[2].reachable and not parameters.reachable
        if let_go or (parameters.stable_window, parameters.panic_window) != windows:
            self._make_series()
        if let_go:
            # What it was asked before goes elsewhere now; who asks it by its tag begins anew.
            self._decider, self.decision = Decider(), None
            self._deaf_until = math.floor(now) + _LATE
        template = deployment["spec"].get("template")
        changed = template != self._template
        if changed:
            self._template = template
            self.lifecycle.renew(now, proven=parameters.proven)
        return changed or before != (self.replicas, self.ready, self.parameters, self.key)

    def record(self, seconds: range, in_flight: float, rate: float) -> None:
        if seconds[0] <= self._deaf_until:
            return
        for second in seconds:
            self.in_flight.record(second, in_flight)
            self.rate.record(second, rate)
        if in_flight > 0 or rate > 0:
            self.lifecycle.asked = True

    def cover(self, until: int | None) -> None:
        """The gateways have told of every second up to `until`."""
        if until is not None and until > self._deaf_until and self.replicas > 0:
            self.in_flight.cover(until)
            self.rate.cover(until)

    @property
    def idle(self) -> bool:
        return self.in_flight.is_zero() and self.rate.is_zero()

    def decide(
        self, now: float, second: int, waiting: float, *, watched_since: float | None, keep: str
    ) -> Step:
        """What is to be done now.

        Args:
            second: the last one that the averages are to count.
            waiting: requests that are in flight at this moment.
        """
        load = self._load(second, 0.0 if self.ready else waiting)
        if load is not None:
            self.decision = self._decider.decide(now, load, self.ready, self.parameters)
        desired = None if self.decision is None else self.decision.desired
        if waiting:
            self.lifecycle.asked = True
        parameters = self.parameters
        if parameters.activation_only:
            desired = None if desired is None else min(desired, 1)
            parameters = replace(parameters, min_scale=min(parameters.min_scale, 1), max_scale=1)
        if parameters.activation_only and self.replicas > 1:
            self.step = Step(self.replicas, self.replicas, "above one pod the HPA decides")
        else:
            scene = Scene(now, desired, self.ready, self.replicas, watched_since, keep)
            self.step = self.lifecycle.step(scene, parameters)
        self.decided_at = now
        if self.step.replicas == 0 and self.replicas == 0:
            self.rest()
        return self.step

    def rest(self) -> None:
        """Whoever asks next is judged by what comes then."""
        if self.idle:
            self.in_flight.forget()
            self.rate.forget()
            self._decider = Decider()
            self.decision = None

    @property
    def calm_at(self) -> float | None:
        """When a panic ends if the load stays low."""
        return self._decider.calm_at(self.parameters)

    @property
    def at_rest(self) -> bool:
        """Whether nothing will change here until somebody asks or the Deployment changes."""
        if self.step is None or not self.idle or not self._decider.at_rest:
            return False
        if self.step.replicas != self.replicas or self.step.again is not None:
            return False
        if self.replicas == 0:
            return True
        if self.decision is not None and self.decision.desired > self.replicas:
            return False
        stays = self.replicas <= self.parameters.fewest or (
            self.replicas == 1 and not self.parameters.scale_to_zero
        )
        return stays and self.lifecycle.phase is Phase.ACTIVE

    def _load(self, second: int, waiting: float) -> Load | None:
        """The averages, if there are any; what waits for a first pod counts at once."""
        series = self.rate if self.parameters.metric == "rps" else self.in_flight
        known = series.has_data(second)
        if not known and not waiting:
            return None
        average = series.weighted_average if self.parameters.weighted else series.average
        stable, panic = average(series.stable, second), average(series.panic, second)
        return Load(max(stable, waiting), max(panic, waiting))

    def _make_series(self) -> None:
        stable, panic = self.parameters.stable_window, self.parameters.panic_window
        self.in_flight = Series(stable, panic)
        self.rate = Series(stable, panic)


def count_pods(deployment: Object) -> tuple[int, int]:
    """Pods asked for, and pods that are ready."""
    asked = deployment["spec"].get("replicas")
    ready = (deployment.get("status") or {}).get("readyReplicas")
    return 1 if asked is None else int(asked), int(ready or 0)
