"""From a resource to its child objects, and from their state back to the resource's status.

One folder per kind: `controller.py` (what is watched), `reconcile.py` (the phases), `names.py`,
`children/` (pure builders: objects in, objects out), `status.py`. Nothing here knows how objects
are stored, how pods run or how a request travels. May import `reconcile`, `cluster.base`,
`cluster.errors`, `api`, `settings` and `lib`; kinds do not import each other.
"""
