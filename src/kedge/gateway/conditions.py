"""Conditions of the statuses that the gateway writes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge.lib.clock import format_time


@dataclass(frozen=True)
class Condition:
    type: str
    status: bool
    reason: str
    message: str


def find_condition(known: Iterable[dict[str, Any]], type: str) -> dict[str, Any]:
    """The condition of that type; empty where there is none."""
    return next((one for one in known if one["type"] == type), {})


def write_condition(
    condition: Condition, generation: int, old: dict[str, Any], now: datetime
) -> dict[str, Any]:
    """As the API has it; `old` is what it was before."""
    status = "True" if condition.status else "False"
    same = old.get("status") == status
    return {
        "type": condition.type,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if same else format_time(now),
    }


def write_conditions(
    conditions: Iterable[Condition], generation: int, known: list[dict[str, Any]], now: datetime
) -> list[dict[str, Any]]:
    """The whole new list: those of others, and the order that all have, are as they were."""
    made = {
        one.type: write_condition(one, generation, find_condition(known, one.type), now)
        for one in conditions
    }
    kept = [made.pop(one["type"], one) for one in known]
    return [*kept, *made.values()]
