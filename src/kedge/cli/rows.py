"""Rows of `kedge get`: of InferenceServices our own columns, of all else the API's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kedge.client.waiting import condition

Object = dict[str, Any]


def of_services(
    objects: list[Object], *, wide: bool, namespaces: bool, now: datetime | None = None
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of InferenceServices; the URL is the one that works from anywhere here."""
    header = ["NAME", "READY", "URL", "TRAFFIC", "AGE"]
    if namespaces:
        header.insert(0, "NAMESPACE")
    if wide:
        header += ["MODE", "RUNTIME", "GENERATION", "MESSAGE"]
    return header, [_service(obj, wide, namespaces, now or datetime.now(UTC)) for obj in objects]


def of_table(table: Object, *, wide: bool, namespaces: bool) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a `meta.k8s.io/v1 Table`."""
    definitions = table.get("columnDefinitions") or []
    shown = [i for i, column in enumerate(definitions) if wide or not column.get("priority")]
    header = [str(definitions[i]["name"]).upper() for i in shown]
    rows = [[_cell(row["cells"][i]) for i in shown] for row in table.get("rows") or []]
    if namespaces:
        header.insert(0, "NAMESPACE")
        for row, source in zip(rows, table.get("rows") or [], strict=True):
            metadata = (source.get("object") or {}).get("metadata") or {}
            row.insert(0, str(metadata.get("namespace") or ""))
    return header, rows


def age(since: str, now: datetime) -> str:
    """How long ago a Kubernetes time was: 5s, 3m12s, 4h, 2d."""
    try:
        seconds = int((now - datetime.fromisoformat(since)).total_seconds())
    except ValueError:
        return "<unknown>"
    seconds = max(seconds, 0)
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 600:
        return f"{seconds // 60}m{seconds % 60}s" if seconds % 60 else f"{seconds // 60}m"
    if seconds < 3 * 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 48 * 3600 else f"{seconds // 86400}d"


def _service(obj: Object, wide: bool, namespaces: bool, now: datetime) -> list[str]:
    metadata, status = obj["metadata"], obj.get("status") or {}
    ready = condition(obj)
    inside = str((status.get("address") or {}).get("url") or "")
    outside = str(status.get("url") or "")
    row = [
        metadata["name"],
        _ready(ready),
        inside if "/serving/" in inside else outside,
        _traffic(obj),
        age(str(metadata.get("creationTimestamp") or ""), now),
    ]
    if namespaces:
        row.insert(0, str(metadata.get("namespace") or ""))
    if wide:
        runtime = status.get("servingRuntimeName") or status.get("clusterServingRuntimeName")
        message = str(ready.get("message") or "").splitlines()
        row += [
            str(status.get("deploymentMode") or ""),
            str(runtime or ""),
            str(metadata.get("generation") or ""),
            message[0] if message else "",
        ]
    return row


def _ready(ready: Object) -> str:
    status = str(ready.get("status") or "Unknown")
    reason = ready.get("reason")
    return f"{status} ({reason})" if reason and status != "True" else status


def _traffic(obj: Object) -> str:
    """`00002=90% 00001=10%`: the predictor's revisions and their shares."""
    name = obj["metadata"]["name"]
    components = (obj.get("status") or {}).get("components") or {}
    shares = []
    for target in (components.get("predictor") or {}).get("traffic") or []:
        revision = str(target.get("revisionName") or "latest")
        short = revision.removeprefix(f"{name}-predictor-")
        if target.get("percent") is not None:
            shares.append(f"{short}={target['percent']}%")
    return " ".join(shares)


def _cell(value: Any) -> str:
    if value is None:
        return "<none>"
    return str(value).lower() if isinstance(value, bool) else str(value)
