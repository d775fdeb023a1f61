"""The engine that calls a reconciler with a key until the world is right.

Here: keyed queues with back-off (`controller`), caches kept by list and watch (`informer`), shared
through `informers`, owner references (`owners`) and events for people (`events`). Not here: any
knowledge of a kind; that is in `controllers`, `gateway` and `cluster.local`. May import
`cluster.base`, `cluster.errors`, `api` and `lib`.

A reconciler gets only a name. It reads the world, compares it with what should be, and acts; it is
run again whenever something it depends on may have changed, so it never needs to know what did.
"""

from kedge.reconcile.controller import Controller, Key, Result
from kedge.reconcile.events import EventRecorder
from kedge.reconcile.informer import Informer
from kedge.reconcile.informers import Informers
from kedge.reconcile.owners import controller_of, controller_reference

__all__ = [
    "Controller",
    "EventRecorder",
    "Informer",
    "Informers",
    "Key",
    "Result",
    "controller_of",
    "controller_reference",
]
