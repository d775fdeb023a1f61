"""The port through which the API asks whether an object may be stored.

`kedge.admission` answers it; `modes` joins the two, so that the local cluster knows nothing of
InferenceServices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from kedge.api.scheme import Kind
from kedge.cluster.base import Object

Operation = Literal["CREATE", "UPDATE"]


class Review(Protocol):
    """The object may be stored."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the client should be told all the same."""
        ...


class Admission(Protocol):
    """Asked before every create and update, not for sub-resources."""

    def admit(self, kind: Kind, operation: Operation, obj: Object, old: Object | None) -> Review:
        """Raises `kedge.cluster.errors.Invalid` when the object may not be stored."""
        ...


@dataclass(frozen=True)
class _NothingToSay:
    warnings: tuple[str, ...] = ()


class AdmitAll:
    """Refuses nothing: for tests, and for tools that work on a store alone."""

    def admit(self, kind: Kind, operation: Operation, obj: Object, old: Object | None) -> Review:
        return _NothingToSay()
