"""Exit codes that scripts can rely on, and which error gives which."""

from __future__ import annotations

OK = 0
"""It was done."""
FAILED = 1
"""The thing failed: a refused manifest, a model that does not load, a prediction with an error."""
USAGE = 2
"""The command line could not be understood."""
NOT_FOUND = 3
"""What was named does not exist."""
UNREACHABLE = 4
"""There is no API to talk to, or it does not let us in."""
TIMED_OUT = 124
"""The time given ran out."""
INTERRUPTED = 130
"""Ctrl-C."""


def exit_code(error: Exception) -> int:
    """The exit code that an error means."""
    from kedge.client.errors import ConfigProblem, NotRunning, TimedOut
    from kedge.cluster.errors import NotFound, Unauthorized, Unavailable

    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, NotRunning | ConfigProblem | Unauthorized | Unavailable):
        return UNREACHABLE
    if isinstance(error, TimedOut):
        return TIMED_OUT
    if getattr(error, "reason", "") == "TimedOut":
        return TIMED_OUT
    return UNREACHABLE if getattr(error, "reason", "") == "NotRunning" else FAILED
