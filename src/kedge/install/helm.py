"""The chart: the same objects, with the values left open.

Each part is rendered with a mark in the place of each value, and the marks become expressions of
the template. So a chart cannot say anything else than `kedge install` does. Definitions of custom
resources are in `crds/`: Helm makes those that are missing, and never changes or removes one.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from typing import Any

import msgspec

from kedge import __version__
from kedge.install import values as values_module
from kedge.install.render import PARTS, Part, to_yaml
from kedge.install.values import Values

_MARK = re.compile(r"KEDGE-VALUE-([A-Za-z.]+)-END")
_WHOLE = re.compile(r"(?m)(?<=: |- )KEDGE-VALUE-([A-Za-z.]+)-END$")
_CRDS = ("crds", "gateway-api-crds")
_RELEASE = {"namespace": ".Release.Namespace"}
"""Values that are Helm's own."""
_OPEN = {"createNamespace": False}
"""Helm makes the namespace itself (`--create-namespace`)."""


def make_chart() -> dict[str, str]:
    """The chart's files by path."""
    files = {
        "Chart.yaml": _CHART.format(version=__version__),
        "values.yaml": make_values(),
        "templates/NOTES.txt": _NOTES,
    }
    for part in PARTS:
        if part.name in _CRDS:
            files[f"crds/{part.name}.yaml"] = to_yaml(part.build(Values()))
        else:
            files[f"templates/{part.name}.yaml"] = _template(part)
    return files


_CHART = """\
apiVersion: v2
name: kedge
description: Serves machine-learning models with KServe's InferenceService
type: application
version: {version}
appVersion: {version}
kubeVersion: ">=1.25.0-0"
"""
_NOTES = """\
Kedge serves models in this cluster. See what runs:

  kubectl get pods -n {{ .Release.Namespace }}

Helm never changes CustomResourceDefinitions. Before an upgrade of Kedge, bring them up to date:

  kubectl apply --server-side -f deploy/helm/kedge/crds/crds.yaml
"""


def _template(part: Part) -> str:
    text = to_yaml(part.build(_marked(Values(), ""))).replace("{{", '{{ "{{" }}')
    text = _WHOLE.sub(lambda found: f"{{{{ {_expression(found[1])} | toJson }}}}", text)
    text = _MARK.sub(lambda found: f"{{{{ {_expression(found[1])} }}}}", text)
    for condition in part.condition.split():
        path = _camel(condition.removeprefix("!"))
        test = f"not {_expression(path)}" if condition.startswith("!") else _expression(path)
        text = f"{{{{- if {test} }}}}\n{text}{{{{- end }}}}\n"
    return text


def _expression(path: str) -> str:
    return _RELEASE.get(path) or f".Values.{path}"


def _camel(path: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), path)


def _marked(section: Any, prefix: str) -> Any:
    """The section with a mark in each field, whatever the field's type."""
    marks: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        path = prefix + field.encode_name
        value = getattr(section, field.name)
        nested = isinstance(value, msgspec.Struct)
        marks[field.name] = _marked(value, f"{path}.") if nested else f"KEDGE-VALUE-{path}-END"
    return type(section)(**marks)


def make_values() -> str:
    """The file of values: each with its default and its meaning."""
    head = "# Written by `python -m kedge.install.write deploy` from kedge/install/values.py.\n"
    return head + "".join(_lines(Values(), "", _descriptions()))


def _lines(section: Any, pad: str, about: dict[tuple[str, str], str]) -> list[str]:
    lines = []
    for field in msgspec.structs.fields(section):
        if not pad and field.encode_name in _RELEASE:
            continue
        value = getattr(section, field.name)
        owner = next(c.__name__ for c in type(section).__mro__ if (c.__name__, field.name) in about)
        lines.append(
            textwrap.fill(
                about[owner, field.name],
                98,
                initial_indent=f"{pad}# ",
                subsequent_indent=f"{pad}# ",
            )
            + "\n"
        )
        if isinstance(value, msgspec.Struct):
            lines += [f"{pad}{field.encode_name}:\n", *_lines(value, pad + "  ", about)]
        else:
            shown = _OPEN.get(field.encode_name, value) if not pad else value
            lines.append(f"{pad}{field.encode_name}: {json.dumps(shown)}\n")
    return lines


def _descriptions() -> dict[tuple[str, str], str]:
    """The text behind each field, by class and field name."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(values_module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                value = ast.literal_eval(text.value)
                found[node.name, ast.unparse(field.target)] = " ".join(str(value).split())
    return found
