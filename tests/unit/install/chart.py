"""Enough of Helm to render Kedge's chart: values, `toJson`, `if` and `not`, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_IF = re.compile(r"{{- if (not )?(\S+) }}\n")
_END = "{{- end }}\n"
_ACTION = re.compile(r"{{ (?:(\"[^\"]*\")|(\.\S+?)( \| toJson)?) }}")


def render_chart(chart: Path, namespace: str, **given: Any) -> list[dict[str, Any]]:
    """The objects of `helm template --include-crds` with `given` over the chart's values."""
    values = yaml.safe_load((chart / "values.yaml").read_text()) | given
    root = {"Values": values, "Release": {"Namespace": namespace}}
    files = [*sorted((chart / "crds").iterdir()), *sorted((chart / "templates").glob("*.yaml"))]
    texts = [
        file.read_text() if file.parent.name == "crds" else _render(file.read_text(), root)
        for file in files
    ]
    return [obj for text in texts for obj in yaml.load_all(text, LOADER) if obj]


def _render(text: str, root: dict[str, Any]) -> str:
    while found := _IF.match(text):
        assert text.endswith(_END)
        wanted = bool(_look_up(root, found[2])) != bool(found[1])
        text = text[found.end() : -len(_END)] if wanted else ""
    rendered = _ACTION.sub(lambda found: _evaluate(found, root), text)
    left = rendered.replace("{{.", "").replace("{{ .", "")
    assert "{{" not in left, "an expression that is not understood here"
    return rendered


def _evaluate(found: re.Match[str], root: dict[str, Any]) -> str:
    if found[1]:
        return str(json.loads(found[1]))
    value = _look_up(root, found[2])
    if found[3]:
        return json.dumps(value)
    assert isinstance(value, str), f"{found[2]} is no text, and has no toJson"
    return value


def _look_up(root: Any, path: str) -> Any:
    for name in path.removeprefix(".").split("."):
        root = root[name]
    return root
