"""What validation finds: causes to refuse an object, and warnings.

Each says where, what the value is, what is wrong, and how to mend it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason to refuse an object, as `metav1.StatusCause` has it.

    Attributes:
        field: the path of the field.
        message: what is wrong and how to mend it, without the path.
        reason: `FieldValueInvalid`, `FieldValueRequired`, `FieldValueForbidden`, ...
    """

    field: str
    message: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass
class Findings:
    """Collects causes and warnings in the order in which they are found."""

    causes: list[Cause] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def invalid(self, path: str, value: Any, problem: str, fix: str) -> None:
        """The value is not one of those allowed."""
        self._add(path, f"Invalid value: {shown(value)}: {problem}", fix, "FieldValueInvalid")

    def missing(self, path: str, problem: str, fix: str) -> None:
        """A value is needed and absent."""
        self._add(path, f"Required value: {problem}", fix, "FieldValueRequired")

    def forbidden(self, path: str, value: Any, problem: str, fix: str) -> None:
        """The field may not be set here."""
        self._add(path, f"Forbidden: {shown(value)}: {problem}", fix, "FieldValueForbidden")

    def warn(self, path: str, text: str, fix: str) -> None:
        """The object is accepted but does not do what it seems to say."""
        self.warnings.append(f"{path}: {text}. Fix: {fix}")

    def _add(self, path: str, problem: str, fix: str, reason: str) -> None:
        self.causes.append(Cause(path, f"{problem}. Fix: {fix}", reason))


def shown(value: Any) -> str:
    """A value as a message quotes it: JSON, shortened."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = list(words)
    return f"{', '.join(most)} or {last}" if most else last


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word that a person probably meant; empty when none is near."""
    folded = {word.casefold(): word for word in known}
    if name.casefold() in folded:
        return folded[name.casefold()]
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=cutoff)
    return folded[close[0]] if close else ""
