"""What a write or a deletion may ask for besides the object itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kedge.cluster.base import FIELD_MANAGER, Object

FieldValidation = Literal["Ignore", "Warn", "Strict"]
Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True)
class WriteOptions:
    """How to write.

    Attributes:
        field_manager: who owns what this write sets.
        dry_run: do everything but store.
        field_validation: what an unknown field means.
    """

    field_manager: str = FIELD_MANAGER
    dry_run: bool = False
    field_validation: FieldValidation = "Ignore"


@dataclass(frozen=True)
class DeleteOptions:
    """How to delete.

    Attributes:
        propagation: what becomes of dependents; the finalizers of the object decide when None.
        grace_seconds: how long a pod may take to end; its own figure when None.
        uid, resource_version: delete only this very object.
    """

    propagation: Propagation | None = None
    grace_seconds: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


WRITE = WriteOptions()
DELETE = DeleteOptions()


@dataclass
class Written:
    """What a write made.

    Attributes:
        object: the object as it now is.
        created: it was not there before.
        warnings: what the client should be told.
    """

    object: Object
    created: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass
class Deleted:
    """What a deletion made.

    Attributes:
        object: its last state.
        gone: false while finalizers or a grace period keep it.
    """

    object: Object
    gone: bool
