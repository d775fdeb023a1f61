"""The table of KServe's samples in `docs/compatibility.md`, made from the golden files alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

BEGIN = "<!-- samples: written by `make golden` -->"
END = "<!-- end of samples -->"
_LATER = ("InferenceGraph", "TrainedModel", "LLMInferenceService", "LLMInferenceServiceConfig")
_RULES = (
    (r"has no implementation", "A component has exactly one implementation"),
    (r"exactly one implementation", "A component has exactly one implementation"),
    (r"always kserve-container", "A framework's spec has no `name`"),
    (r"v1alpha2 InferenceService is not served", "KServe dropped `v1alpha2` in 0.7"),
    (rf"({'|'.join(_LATER)}) is not served", "A kind of KServe that this release does not have"),
    (r"(ClusterRole|KafkaSource) is not served", "No kind of serving: it means nothing here"),
    (r"ModelMesh is not supported", "Modes are Standard and Knative; told in the status"),
)
"""What a refusal says, and the rule behind it."""


class Row(NamedTuple):
    """Files that are refused for the same reason."""

    files: str
    reason: str
    rule: str


def section(samples: Path) -> str:
    """The generated part, between its marks.

    Args:
        samples: the folder with `ACCEPTED.yaml` and `REFUSED.yaml`.
    """
    accepted = yaml.safe_load((samples / "ACCEPTED.yaml").read_text())
    refused = yaml.safe_load((samples / "REFUSED.yaml").read_text())
    lines = [*_counts(accepted, refused), "", "| File | Reason | Rule |", "| --- | --- | --- |"]
    lines += [f"| {row.files} | {row.reason} | {row.rule} |" for row in _rows(refused)]
    return "\n".join([BEGIN, *lines, END])


def _counts(accepted: dict[str, Any], refused: dict[str, Any]) -> Iterator[str]:
    objects = [entry for entries in accepted.values() for entry in entries]
    kinds = Counter(str(entry["object"]).partition(" ")[0] for entry in objects)
    foreign = sum("format" in entry for entry in objects)
    services = kinds.pop("InferenceService")
    others = ", ".join(
        f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(kinds.items())
    )
    both = len(set(accepted) & set(refused))
    yield f"{len(set(accepted) | set(refused))} files:"
    yield f"{len(set(accepted) - set(refused))} are accepted, {len(refused) - both} are refused,"
    yield f"and of {both} one part is accepted and another refused."
    yield f"Accepted are {services} InferenceServices and {others}."
    yield f"{foreign} of the services name a framework that Kedge brings no runtime for:"
    yield "a warning, and a status that says so until a runtime is applied."


def _rows(refused: dict[str, list[str]]) -> Iterator[Row]:
    """One per file and rule; a folder of kinds that are not served is one."""
    whole: dict[tuple[str, str], list[Row]] = {}
    for path, messages in refused.items():
        for row in _of_file(path, messages):
            folder = path.partition("/")[0]
            at_once = "does not have" in row.rule and folder == "llmisvc"
            whole.setdefault((folder if at_once else path, row.rule), []).append(row)
    for rows in whole.values():
        if len(rows) == 1:
            yield rows[0]
        else:
            kinds = {row.reason.removesuffix(" is not served").split()[-1] for row in rows}
            reason = f"{' and '.join(sorted(kinds))} are not served"
            yield Row(f"`llmisvc` ({len(rows)} files)", reason, rows[0].rule)


def _of_file(path: str, messages: Iterable[str]) -> Iterator[Row]:
    reasons: dict[str, list[str]] = {}
    for message in messages:
        found = reasons.setdefault(rule_of(message), [])
        if (reason := _reason(message)) not in found:
            found.append(reason)
    for rule, texts in reasons.items():
        yield Row(f"`{path}`", "; ".join(texts), rule)


def rule_of(message: str) -> str:
    """The rule behind a refusal; a refusal that no rule explains is a defect."""
    for pattern, rule in _RULES:
        if re.search(pattern, message):
            return rule
    raise AssertionError(f"No rule of KServe's explains this refusal: {message}")


def _reason(message: str) -> str:
    served = re.search(r": (\S+ \S+) is not served", message)
    if served:
        return f"{served[1]} is not served"
    said = message.partition("is invalid: ")[2] or message.partition(": ")[2]
    text = said.partition(" Fix: ")[0].strip("[]. ")
    return re.sub(r"(?<![\w`])(spec(?:\.\w+)+)", r"`\1`", text)
