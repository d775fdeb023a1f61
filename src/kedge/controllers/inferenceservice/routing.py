"""Capacity before weight: when the requests of a component may move to other Services.

A Service gets requests, or more of them, only when it has the ready pods for them and the gateway
has said that it knows them. Until all that is asked for can be had, everything stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kedge.controllers.inferenceservice.children.httproute import Backend


@dataclass(frozen=True)
class Decision:
    """What a component's routes shall say now.

    Attributes:
        backends: the Services and shares to write.
        pending: Services that are asked for but not yet known to the gateway.
        complete: `backends` is what was asked for.
    """

    backends: tuple[Backend, ...]
    pending: tuple[Backend, ...] = ()
    complete: bool = True


def decide(
    current: Sequence[Backend],
    desired: Sequence[Backend],
    answering: Collection[str],
    able: Collection[str],
    known: Collection[str],
) -> Decision:
    """Move to `desired` now, or stay with `current`.

    Args:
        current: what the routes say.
        desired: what they shall say in the end.
        answering: Services that answer a request sent now, be it after a wait.
        able: those of them that have the pods for the share that is meant for them.
        known: Services that some route of the gateway answers from.
    """
    weights = {backend.service: backend.weight for backend in current}
    if not any(weight > 0 and service in answering for service, weight in weights.items()):
        return Decision(tuple(desired))
    risen = [backend for backend in desired if backend.weight > weights.get(backend.service, 0)]
    waiting = [
        backend
        for backend in risen
        if backend.service not in able
        or not (weights.get(backend.service, 0) > 0 or backend.service in known)
    ]
    if not waiting:
        return Decision(tuple(desired))
    return Decision(tuple(current), tuple(waiting), complete=False)


def withdraw(desired: Sequence[Backend], failing: Collection[str]) -> list[Backend]:
    """Give the share of Services that cannot answer to those that can, if any can."""
    able = [b for b in desired if b.weight > 0 and b.service not in failing]
    lost = sum(b.weight for b in desired if b.service in failing)
    if not able or not lost:
        return list(desired)
    heir = max(able, key=lambda backend: backend.weight).service
    return [
        Backend(
            b.service,
            0 if b.service in failing else b.weight + (lost if b.service == heir else 0),
            b.ports,
        )
        for b in desired
    ]
