"""The review as an API server asks for it: `admission.k8s.io/v1` AdmissionReview in and out.

It says yes with warnings, or no with every cause. It never changes an object, and what it fails to
understand it lets through: the status of the object will say what is wrong with it.
"""

from __future__ import annotations

import logging
from typing import Any

from kedge.admission.review import AdmissionReview
from kedge.api.scheme import kind_of
from kedge.cluster.errors import ApiError

log = logging.getLogger(__name__)

_LONGEST_WARNING = 256
"""Characters; API servers cut longer ones, and leave out what is more than 4 kB in all."""


def answer(review: AdmissionReview, asked: dict[str, Any]) -> dict[str, Any]:
    """The AdmissionReview that answers `asked`."""
    request = asked.get("request") or {}
    response = {"uid": request.get("uid", ""), **_judge(review, request)}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def _judge(review: AdmissionReview, request: dict[str, Any]) -> dict[str, Any]:
    obj, operation = request.get("object"), request.get("operation")
    kind = kind_of(obj) if isinstance(obj, dict) else None
    if obj is None or kind is None or operation not in ("CREATE", "UPDATE"):
        return {"allowed": True}
    try:
        found = review.admit(kind, operation, obj, request.get("oldObject"))
    except ApiError as error:
        return {"allowed": False, "status": error.to_status()}
    except Exception as error:
        log.exception("%s %s cannot be reviewed", operation, request.get("name"))
        text = f"Kedge could not review this and lets it through: {error!r}"
        return {"allowed": True, "warnings": [text[:_LONGEST_WARNING]]}
    if not found.warnings:
        return {"allowed": True}
    return {"allowed": True, "warnings": [text[:_LONGEST_WARNING] for text in found.warnings]}
