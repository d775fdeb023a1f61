"""Whether an object has its kind's shape, and what to make of it when it has not."""

from __future__ import annotations

from kedge.api.schema import FieldProblem, check
from kedge.api.scheme import Kind
from kedge.cluster.base import Object
from kedge.cluster.errors import BadRequest
from kedge.cluster.local.requests import FieldValidation
from kedge.cluster.local.validity import Problem, invalid


def check_types(
    kind: Kind, obj: Object, validation: FieldValidation, old: Object | None = None
) -> list[str]:
    """Warnings about unknown fields.

    Args:
        old: what is stored now; who does not ask about unknown fields gets no second check of what
            it says too.

    Raises:
        BadRequest: an unknown field, and the client asked for strictness.
        Invalid: a field of the wrong type, or one that is required and missing.
    """
    known = old if validation == "Ignore" else None
    problems = [one for one in check(kind, obj, known) if _matters(one)]
    _refuse_wrong(kind, obj, [one for one in problems if one.kind != "unknown"])
    unknown = [one.message for one in problems if one.kind == "unknown"]
    if unknown and validation == "Strict":
        raise BadRequest(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}:'
            f" strict decoding error: {', '.join(unknown)}"
        )
    return unknown if validation == "Warn" else []


def _matters(problem: FieldProblem) -> bool:
    """Parts write their status piece by piece: there a wrong type is all that counts."""
    if problem.path.startswith("status"):
        return problem.kind == "type"
    return not problem.path.startswith("metadata.managedFields")


def check_status(kind: Kind, obj: Object) -> None:
    """Raise `Invalid` where a field of the status has a wrong type."""
    problems = check(kind, {"status": obj.get("status")})
    wrong = [one for one in problems if one.kind == "type" and one.path.startswith("status")]
    _refuse_wrong(kind, obj, wrong)


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
