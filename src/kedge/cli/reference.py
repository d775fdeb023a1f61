"""The reference of the command line, written from the commands themselves.

`python -m kedge.cli.reference docs/reference/cli.md` writes it anew; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from kedge.cli.main import EPILOG, app

_HIDDEN = frozenset({"help", "install_completion", "show_completion", "show_version"})


def reference() -> str:
    """The whole document, in Markdown."""
    root: Any = typer.main.get_command(app)
    lines = [
        "# The command line",
        "",
        "Written from the commands by `python -m kedge.cli.reference docs/reference/cli.md`.",
        "",
        "Which API: `--kubeconfig`, else `$KUBECONFIG`, else the Kedge that runs on this machine",
        "(`$KEDGE_HOME`, else `~/.kedge`). `kedge --install-completion` sets up the shell.",
        "",
        EPILOG,
        "",
    ]
    for name, command in root.commands.items():
        for words, verb in _verbs(f"kedge {name}", command):
            lines += _section(words, verb)
    return "\n".join(lines).rstrip() + "\n"


def _verbs(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name, verb in inner.items():
        yield from _verbs(f"{words} {name}", verb)


def _section(words: str, verb: Any) -> list[str]:
    arguments = [param for param in verb.params if param.param_type_name == "argument"]
    options = [
        param
        for param in verb.params
        if param.param_type_name == "option" and param.name not in _HIDDEN
    ]
    usage = " ".join(
        [words, *(_argument(one) for one in arguments), *["[OPTIONS]"] * bool(options)]
    )
    lines = [f"## {words}", "", f"    {usage}", "", *_paragraphs(str(verb.help)), ""]
    rows = [(_cell(f"`{_argument(one)}`"), one.help or "", "") for one in arguments]
    rows += [(_flags(one), one.help or "", _default(one)) for one in options]
    if rows:
        lines += ["| | | default |", "| --- | --- | --- |"]
        lines += [f"| {flags} | {_cell(told)} | {default} |" for flags, told, default in rows]
        lines.append("")
    return lines


def _paragraphs(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def _argument(param: Any) -> str:
    return str(param.metavar or str(param.name).upper())


def _flags(param: Any) -> str:
    names = ", ".join(f"`{opt}`" for opt in [*param.opts, *param.secondary_opts])
    if param.is_flag:
        return names
    return f"{names} {_cell(param.metavar or '')}".rstrip()


def _default(param: Any) -> str:
    value = param.default
    if callable(value) or value is None or value is False or value == "" or param.required:
        return ""
    if param.is_flag:
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
