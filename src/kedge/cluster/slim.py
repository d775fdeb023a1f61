"""Objects without who manages which field, which is half of what they weigh.

Whoever keeps a cache of thousands of objects has no use for it, but for one thing: who counts the
replicas.
"""

from __future__ import annotations

from collections.abc import Iterator

from kedge.cluster.base import Object


def slim_down(obj: Object) -> None:
    """Take out of an object, in place, all that is told of managers but who counts the replicas."""
    fields = obj["metadata"].pop("managedFields", None)
    if fields and "replicas" in (obj.get("spec") or {}):
        counting = [entry["manager"] for entry in fields if "replicas" in _specified(entry)]
        kept = [
            {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}} for manager in counting
        ]
        # That nobody counts is known, too.
        obj["metadata"]["managedFields"] = kept or [{"manager": fields[0]["manager"]}]


def _specified(entry: Object) -> Iterator[str]:
    """The fields of the spec that somebody manages."""
    spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
    return (name.removeprefix("f:") for name in spec)
