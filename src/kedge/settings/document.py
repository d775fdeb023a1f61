"""The shipped `inferenceservice-config`, with every option described, made from the settings.

`python -m kedge.settings.document` writes it into `kedge/manifests/config`. The keys hold what the
default installation sets; `_example` shows every option with its default and its meaning, taken
from the text behind each field in `serving`.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from kedge.settings import serving

FILE = Path(__file__).parent.parent / "manifests" / "config" / "inferenceservice-config.yaml"

_HEAD = """\
# Written by `python -m kedge.settings.document` from kedge/settings/serving.py; do not edit there.
# Edit the keys of this ConfigMap in your cluster: a key or field left out has its default.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
  namespace: {namespace}
data:
"""
_EXAMPLE_HEAD = """\
This block is not read. It lists every option with its default, in the form
of the key it belongs to. To set one, copy the key out of this block, keep
the fields that you want to set, and leave the lines that start with # out.
"""


def render() -> str:
    """The ConfigMap as YAML."""
    shipped = serving.ServingConfig.default()
    plain = serving.ServingConfig()
    text = _HEAD.format(name=serving.CONFIG_MAP_NAME, namespace=serving.DEFAULT_NAMESPACE)
    for field in serving.ServingConfig.sections():
        values = _difference(getattr(shipped, field.name), getattr(plain, field.name))
        if values:
            text += _block(field.encode_name, json.dumps(values, indent=2))
    return text + _block("_example", _EXAMPLE_HEAD + "\n" + _example(shipped))


def _block(key: str, text: str) -> str:
    return f"  {key}: |\n" + textwrap.indent(text, "    ") + ("" if text.endswith("\n") else "\n")


def _difference(ours: msgspec.Struct, base: msgspec.Struct) -> dict[str, Any]:
    """The fields in which a section differs from its defaults."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(ours):
        mine, theirs = getattr(ours, field.name), getattr(base, field.name)
        if mine == theirs:
            continue
        nested = isinstance(mine, msgspec.Struct)
        values[field.encode_name] = _difference(mine, theirs) if nested else mine
    return values


def _example(config: serving.ServingConfig) -> str:
    descriptions = _descriptions()
    sections = []
    for field in serving.ServingConfig.sections():
        section = getattr(config, field.name)
        head = f"# {descriptions['ServingConfig', field.name]}\n{field.encode_name}: "
        sections.append(head + _object(section, descriptions, ""))
    return "\n\n".join(sections) + "\n"


def _object(section: msgspec.Struct, descriptions: dict[tuple[str, str], str], pad: str) -> str:
    inner = pad + "  "
    entries = []
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        about = descriptions[type(section).__name__, field.name]
        comment = textwrap.fill(
            about, 88, initial_indent=f"{inner}# ", subsequent_indent=f"{inner}# "
        )
        nested = isinstance(value, msgspec.Struct)
        shown = _object(value, descriptions, inner) if nested else json.dumps(value)
        entries.append(f'{comment}\n{inner}"{field.encode_name}": {shown}')
    return "{\n" + ",\n".join(entries) + f"\n{pad}}}"


def _descriptions() -> dict[tuple[str, str], str]:
    """The text behind each field, by class and field name."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(serving)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                value = ast.literal_eval(text.value)
                found[node.name, ast.unparse(field.target)] = " ".join(str(value).split())
    return found


def main() -> int:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
