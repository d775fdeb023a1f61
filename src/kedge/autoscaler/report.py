"""What the autoscaler sees and has decided, as JSON for people and programs."""

from __future__ import annotations

import math
from typing import Any

from kedge.autoscaler.explain import explain
from kedge.autoscaler.lifecycle import Phase
from kedge.autoscaler.target import Target
from kedge.autoscaler.wire import Signal

_RELEASE = 3.0
"""Seconds that a tick or two take between marking the last pod and taking it."""


def describe(
    target: Target, latest: Signal, now: float, watched_since: float | None
) -> dict[str, Any]:
    """One Deployment: its signals, what was decided about it and why.

    Args:
        latest: what the gateways said last.
        now: on the autoscaler's clock.
        watched_since: since when the gateways have told of every request.
    """
    parameters, decision, step = target.parameters, target.decision, target.step
    in_flight, _, held = latest
    second, rate = math.floor(now), target.rate
    busy = in_flight + held > 0
    return {
        "namespace": target.place.namespace,
        "deployment": target.place.name,
        "metric": parameters.metric,
        "target": round(parameters.target, 4),
        "stable": decision.load.stable if decision else 0.0,
        "panic": decision.load.panic if decision else 0.0,
        "stableWindowSeconds": parameters.stable_window,
        "panicWindowSeconds": parameters.panic_window,
        "inFlight": in_flight,
        "requestsPerSecond": rate.average(rate.stable, second),
        "held": held,
        "panicking": bool(decision and decision.panicking),
        "desired": decision.desired if decision else None,
        "wanted": step.wanted if step else None,
        "replicas": target.replicas,
        "ready": target.ready,
        "minScale": parameters.min_scale,
        "maxScale": parameters.max_scale,
        "phase": target.lifecycle.phase.value,
        "phaseSeconds": round(now - target.lifecycle.since, 1),
        "secondsToZero": seconds_to_zero(target, busy, now, watched_since),
        "reason": explain(target),
        "problems": [*parameters.problems, *filter(None, [target.failure])],
    }


def seconds_to_zero(
    target: Target, busy: bool, now: float, watched_since: float | None
) -> float | None:
    """Until its last pod goes if nobody asks any more from now on; None when that one stays."""
    parameters = target.parameters
    if target.replicas == 0:
        return 0.0
    if parameters.min_scale > 0 and parameters.reachable:
        return None
    if not parameters.scale_to_zero or (parameters.activation_only and target.replicas > 1):
        return None
    series = target.rate if parameters.metric == "rps" else target.in_flight
    newest = math.floor(now) if busy else series.newest_load()
    quiet = now if newest is None else newest + parameters.stable_window
    lifecycle = target.lifecycle
    inactive = lifecycle.since if lifecycle.phase is Phase.INACTIVE else None
    if inactive is None:
        active_for = lifecycle.since + parameters.stable_window
        inactive = max(now, quiet, active_for, target.calm_at or now)
    end = inactive + parameters.retention
    # The last pod goes after the grace period, or once the gateway has been there for as long.
    if watched_since is None or watched_since > inactive:
        end = max(end, inactive + parameters.grace)
    else:
        end = max(end, watched_since + parameters.grace)
    return round(max(end - now, 0.0) + _RELEASE, 1)
