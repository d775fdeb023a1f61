"""What is refused about a ClusterStorageContainer, and what is warned about."""

from __future__ import annotations

import re
from typing import Any

from kedge.api.findings import Findings

INIT_CONTAINER = "storage-initializer"


def validate(container: dict[str, Any]) -> Findings:
    """Everything that is wrong; a disabled one may be anything."""
    findings = Findings()
    spec = container.get("spec") or {}
    if container.get("disabled"):
        return findings
    name = (spec.get("container") or {}).get("name")
    if spec and name != INIT_CONTAINER:
        findings.invalid(
            "spec.container.name",
            name,
            "the container is laid over the init container of that name",
            f"Write {INIT_CONTAINER}.",
        )
    for i, entry in enumerate(spec.get("supportedUriFormats") or []):
        _check_format(f"spec.supportedUriFormats[{i}]", entry, findings)
    if not spec.get("supportedUriFormats"):
        findings.warn(
            "spec.supportedUriFormats",
            "without any it is used only by services that name it",
            "Add the prefixes that it can bring.",
        )
    return findings


def _check_format(path: str, entry: dict[str, Any], findings: Findings) -> None:
    prefix, regex = entry.get("prefix"), entry.get("regex")
    if not prefix and not regex:
        findings.missing(path, "it says which URIs are meant", "Add prefix or regex.")
    if prefix and regex:
        findings.warn(
            f"{path}.regex", "it has no effect: prefix is set too", "Keep one of the two."
        )
    try:
        re.compile(regex or "")
    except re.error as error:
        findings.invalid(
            f"{path}.regex", regex, f"it is no regular expression: {error}", "Correct it."
        )
