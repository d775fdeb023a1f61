"""Where the local cluster's objects rest: SQLite, one growing version, a history of changes.

The store knows nothing of Kubernetes' rules (those are in `registry`): it keeps bytes under a
kind, a namespace and a name, and tells watchers what changed.
"""

from kedge.cluster.local.store.database import Record, Store
from kedge.cluster.local.store.history import Change, Subscription

__all__ = ["Change", "Record", "Store", "Subscription"]
