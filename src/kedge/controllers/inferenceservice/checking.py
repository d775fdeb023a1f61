"""What admission says of a service, said again where nobody asked admission.

On one machine every object was reviewed before it was stored. On Kubernetes the webhook may be off
or away, and what it would have refused is here all the same: then it changes nothing, and its
status says what the refusal would have said.
"""

from __future__ import annotations

from kedge.api.inferenceservice.validation import validate
from kedge.api.schema import check
from kedge.api.scheme import INFERENCE_SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.components import Warned
from kedge.controllers.inferenceservice.errors import BuildError
from kedge.settings.serving import ServingConfig


class Rejected(BuildError):
    """A service that admission refuses."""

    reason = "Invalid"


def review(isvc: Object, config: ServingConfig) -> list[Warned]:
    """What admission would warn of.

    Raises:
        Rejected: admission refuses it.
    """
    problems = check(INFERENCE_SERVICE, isvc)
    wrong = [problem.message for problem in problems if problem.kind != "unknown"]
    unknown = [Warned(one.path, one.detail) for one in problems if one.kind == "unknown"]
    warnings: list[str] = []
    if not wrong:
        findings = validate(isvc, None, config)
        wrong = [str(cause) for cause in findings.causes]
        warnings = findings.warnings
    if wrong:
        # A misspelt field is often why something else is missing.
        raise Rejected(" ".join([*map(str, unknown), *wrong]))
    return [*unknown, *(_warned(text) for text in dict.fromkeys(warnings))]


def _warned(text: str) -> Warned:
    path, _, message = text.partition(": ")
    return Warned(path, message)
