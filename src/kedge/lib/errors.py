"""The root of Kedge's errors.

::

    KedgeError
    ├── TerminalError                      reconcile: retrying cannot help until something changes
    ├── kedge.cluster.errors.ApiError      what a Kubernetes API answers (404, 409, 422, ...)
    ├── kedge.protocol.errors.ServingError what an inference client is told (400, 404, 503, ...)
    └── kedge.storage.errors.StorageError  model files that cannot be brought

Every error says what went wrong; `fix`, where there is one, says how to mend it.
"""

from __future__ import annotations


class KedgeError(Exception):
    """Something went wrong that Kedge can name.

    Attributes:
        reason: a CamelCase word for machines, stable across releases.
        fix: one sentence that tells a person how to mend it; may be empty.
    """

    reason: str = "InternalError"

    def __init__(self, message: str, *, fix: str = "", reason: str | None = None) -> None:
        super().__init__(message)
        self.fix = fix
        if reason is not None:
            self.reason = reason

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return f"{self.message} Fix: {self.fix}" if self.fix else self.message


class TerminalError(KedgeError):
    """Retrying the same reconcile cannot succeed until the object or its surroundings change."""

    reason = "Terminal"
