"""How a rendering looks in a golden file: what was warned of and refused, then the objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kedge.modes.render import Rendered


class _Dumper(yaml.SafeDumper):
    """Block texts as blocks, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def show(rendered: Rendered) -> str:
    """The whole of a rendering as one text."""
    lines = [f"# warning: {text}" for text in rendered.warnings]
    lines += [f"# error: {text}" for text in rendered.errors]
    head = "".join(f"{line}\n" for line in lines)
    return head + yaml.dump_all(
        rendered.objects, Dumper=_Dumper, sort_keys=False, width=100, explicit_start=True
    )


def load(path: Path) -> list[dict[str, Any]]:
    """The objects of a YAML file."""
    return [obj for obj in yaml.safe_load_all(path.read_text()) if obj]
