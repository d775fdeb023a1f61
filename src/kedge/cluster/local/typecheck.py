"""Whether an object has its kind's shape, and what to make of it when it has not."""

from __future__ import annotations

from kedge.api.schema import FieldProblem, check
from kedge.api.scheme import Kind
from kedge.cluster.base import Object
from kedge.cluster.errors import BadRequest
from kedge.cluster.local.requests import FieldValidation
from kedge.cluster.local.validity import Problem, invalid

_SERVER_WRITTEN = ("metadata.managedFields", "status")


def check_types(kind: Kind, obj: Object, validation: FieldValidation) -> list[str]:
    """Warnings about unknown fields.

    Raises:
        BadRequest: an unknown field, and the client asked for strictness.
        Invalid: a field of the wrong type, or one that is required and missing.
    """
    problems = [one for one in check(kind, obj) if not one.path.startswith(_SERVER_WRITTEN)]
    _refuse_wrong(kind, obj, [one for one in problems if one.kind != "unknown"])
    unknown = [one.message for one in problems if one.kind == "unknown"]
    if unknown and validation == "Strict":
        raise BadRequest(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}:'
            f" strict decoding error: {', '.join(unknown)}"
        )
    return unknown if validation == "Warn" else []


def _refuse_wrong(kind: Kind, obj: Object, problems: list[FieldProblem]) -> None:
    if not problems:
        return
    causes = [
        Problem(
            one.path,
            one.message.removeprefix(f"{one.path}: "),
            "FieldValueRequired" if one.kind == "required" else "FieldValueTypeInvalid",
        )
        for one in problems
    ]
    raise invalid(kind, obj["metadata"].get("name") or "", causes)
