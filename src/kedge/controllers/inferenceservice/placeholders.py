"""Go-template placeholders in a runtime's container: `{{.Name}}`, `{{.Labels.modelClass}}`.

The data of a runtime is the service's metadata. A missing label or annotation renders empty;
anything else that cannot be rendered is an error. Values are inserted as they are, without HTML
escaping.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kedge.controllers.inferenceservice.errors import InvalidSpec

_PLACEHOLDER = re.compile(r"(?:\s*\{\{-\s|\{\{)(.*?)(?:\s-\}\}\s*|\}\})", re.DOTALL)
_FIELD = re.compile(r"\.([A-Za-z]+)((?:\.[A-Za-z_][A-Za-z0-9_]*)?)")
_INDEX = re.compile(r'index\s+\.([A-Za-z]+)\s+"([^"]*)"')


def service_data(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a runtime's placeholders are filled from: texts, and maps of texts."""
    return {
        "Name": str(metadata.get("name") or ""),
        "GenerateName": str(metadata.get("generateName") or ""),
        "Namespace": str(metadata.get("namespace") or ""),
        "UID": str(metadata.get("uid") or ""),
        "Labels": metadata.get("labels") or {},
        "Annotations": metadata.get("annotations") or {},
    }


def render(value: Any, data: Mapping[str, Any]) -> Any:
    """`value` with every placeholder in its texts replaced from `data`; other values as they are.

    Raises:
        InvalidSpec: a placeholder that is not closed or names nothing in `data`.
    """
    if isinstance(value, str):
        return _render_text(value, data) if "{{" in value else value
    if isinstance(value, dict):
        return {key: render(item, data) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, data) for item in value]
    return value


def _render_text(text: str, data: Mapping[str, Any]) -> str:
    rendered = _PLACEHOLDER.sub(lambda found: _value(found[1].strip(), text, data), text)
    if len(_PLACEHOLDER.findall(text)) != text.count("{{"):
        raise InvalidSpec(
            f"The placeholder in `{text}` is not closed.",
            fix="Close it with `}}`, for example `{{.Name}}`.",
        )
    return rendered


def _value(expression: str, text: str, data: Mapping[str, Any]) -> str:
    field, key = _parse(expression)
    found = data.get(field)
    if isinstance(found, str) and key is None:
        return found
    if isinstance(found, Mapping) and key is not None:
        return str(found.get(key, ""))
    names = ", ".join(
        f"{{{{.{name}}}}}" if isinstance(value, str) else f"{{{{.{name}.KEY}}}}"
        for name, value in data.items()
    )
    raise InvalidSpec(
        f"The placeholder `{{{{{expression}}}}}` in `{text}` names nothing that can be filled in.",
        fix=f'Use one of {names}, or {{{{index .Labels "KEY"}}}} for a key with dots.',
    )


def _parse(expression: str) -> tuple[str, str | None]:
    if indexed := _INDEX.fullmatch(expression):
        return indexed[1], indexed[2]
    if plain := _FIELD.fullmatch(expression):
        return plain[1], plain[2][1:] or None
    return "", None
