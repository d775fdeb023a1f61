"""Go-template placeholders in a runtime's container: `{{.Name}}`, `{{.Labels.modelClass}}`.

The data is the service's metadata. A missing label or annotation renders empty; anything else that
cannot be rendered is an error. Values are inserted as they are, without HTML escaping.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kedge.controllers.inferenceservice.errors import InvalidSpec

_PLACEHOLDER = re.compile(r"(?:\s*\{\{-\s|\{\{)(.*?)(?:\s-\}\}\s*|\}\})", re.DOTALL)
_FIELD = re.compile(r"\.([A-Za-z]+)((?:\.[A-Za-z_][A-Za-z0-9_]*)?)")
_INDEX = re.compile(r'index\s+\.([A-Za-z]+)\s+"([^"]*)"')
_TEXTS = {
    "Name": "name",
    "GenerateName": "generateName",
    "Namespace": "namespace",
    "UID": "uid",
}
_MAPS = {"Labels": "labels", "Annotations": "annotations"}


def render(value: Any, metadata: Mapping[str, Any]) -> Any:
    """`value` with every placeholder in its texts replaced; other values as they are.

    Raises:
        InvalidSpec: a placeholder that is not closed or names no field of the metadata.
    """
    if isinstance(value, str):
        return _render_text(value, metadata) if "{{" in value else value
    if isinstance(value, dict):
        return {key: render(item, metadata) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, metadata) for item in value]
    return value


def _render_text(text: str, metadata: Mapping[str, Any]) -> str:
    rendered = _PLACEHOLDER.sub(lambda found: _value(found[1].strip(), text, metadata), text)
    if len(_PLACEHOLDER.findall(text)) != text.count("{{"):
        raise InvalidSpec(
            f"The placeholder in `{text}` is not closed.",
            fix="Close it with `}}`, for example `{{.Name}}`.",
        )
    return rendered


def _value(expression: str, text: str, metadata: Mapping[str, Any]) -> str:
    field, key = _parse(expression)
    if key is None and field in _TEXTS:
        return str(metadata.get(_TEXTS[field]) or "")
    if key is not None and field in _MAPS:
        return str((metadata.get(_MAPS[field]) or {}).get(key, ""))
    raise InvalidSpec(
        f"The placeholder `{{{{{expression}}}}}` in `{text}` names nothing that can be filled in.",
        fix="Use {{.Name}}, {{.Namespace}}, {{.UID}}, {{.Labels.KEY}}, {{.Annotations.KEY}}"
        ' or {{index .Labels "KEY"}}.',
    )


def _parse(expression: str) -> tuple[str, str | None]:
    if indexed := _INDEX.fullmatch(expression):
        return indexed[1], indexed[2]
    if plain := _FIELD.fullmatch(expression):
        return plain[1], plain[2][1:] or None
    return "", None
