"""Durations as kubectl writes them: `45s`, `3m20s`, `5h`, `2d`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

UNKNOWN = "<unknown>"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


def age(since: Any, now: datetime) -> str:
    """The time from an RFC 3339 moment until now."""
    if not isinstance(since, str) or not since:
        return UNKNOWN
    try:
        then = datetime.fromisoformat(since)
    except ValueError:
        return UNKNOWN
    return format_duration(int((now - then).total_seconds()))


def format_duration(seconds: int) -> str:
    """Two units while that says something, as `duration.HumanDuration` does."""
    if seconds < -1:
        return "<invalid>"
    if seconds < 2 * _MINUTE:
        return f"{max(seconds, 0)}s"
    if seconds < 10 * _MINUTE:
        return _two(seconds, _MINUTE, "m", 1, "s")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two(seconds, _HOUR, "h", _MINUTE, "m")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two(seconds, _DAY, "d", _HOUR, "h")
    if seconds < 2 * _YEAR:
        return f"{seconds // _DAY}d"
    if seconds < 8 * _YEAR:
        return _two(seconds, _YEAR, "y", _DAY, "d")
    return f"{seconds // _YEAR}y"


def _two(seconds: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    whole, rest = divmod(seconds, large)
    part = rest // small
    return f"{whole}{large_unit}{part}{small_unit}" if part else f"{whole}{large_unit}"
