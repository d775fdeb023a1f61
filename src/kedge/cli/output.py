"""Text for people and for pipes: the same words, with colour and frames only on a terminal.

On a terminal Rich draws; in a pipe, with `NO_COLOR` or with `TERM=dumb`, everything is plain text
in columns, never wrapped and never cut.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any


def is_rich(stream: IO[str] | None = None) -> bool:
    """Whether to draw for a person on a terminal."""
    stream = sys.stdout if stream is None else stream
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def say(text: str = "") -> None:
    """A line of the answer."""
    print(text, flush=True)


def note(text: str) -> None:
    """A line beside the answer, on standard error: warnings, progress, hints."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    if is_rich(sys.stderr):
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble(("Warning: ", "yellow"), text), soft_wrap=True)
    else:
        note(f"Warning: {text}")


def fail(text: str) -> None:
    """An error; what follows `Fix:` stands out."""
    if not is_rich(sys.stderr):
        note(f"Error: {text}")
        return
    from rich.console import Console
    from rich.text import Text

    told, marker, fix = text.partition(" Fix: ")
    line = Text.assemble(("Error: ", "bold red"), told)
    if marker:
        line.append("\nFix: ", "bold green").append(fix)
    Console(stderr=True).print(line, soft_wrap=True)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, heading: bool = True) -> str:
    """Rows in columns three spaces apart, as kubectl writes them."""
    lines = [list(header), *(list(row) for row in rows)] if heading else [list(r) for r in rows]
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


STYLES = {
    "True": "green",
    "Ready": "green",
    "Running": "green",
    "False": "red",
    "Unknown": "yellow",
    "Pending": "yellow",
}
"""Colours of words that a table's cell begins with."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, drawn or plain."""
    if not is_rich():
        say(columns(header, rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 3, 0, 0))
    for title in header:
        drawn.add_column(title, no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(cell, STYLES.get(cell.partition(" ")[0], "")) for cell in row))
    # A URL that is broken over lines cannot be copied: the terminal may wrap, the table does not.
    natural = sum(max(map(len, column)) + 3 for column in zip(header, *rows, strict=True))
    Console(width=max(Console().width, natural)).print(drawn)


def code(text: str, language: str) -> None:
    """YAML or JSON, coloured on a terminal and untouched in a pipe."""
    if not is_rich():
        say(text.rstrip("\n"))
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text.rstrip("\n"), language, background_color="default"))


@contextmanager
def progress(beginning: str) -> Iterator[Callable[[str], None]]:
    """A spinner with one line that changes; in a pipe, a line on standard error per change."""
    if is_rich(sys.stderr):
        from rich.console import Console
        from rich.markup import escape

        with Console(stderr=True).status(escape(beginning)) as status:
            yield lambda text: status.update(escape(text))
        return
    last = beginning
    note(beginning)

    def plain(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            note(text)

    yield plain


def to_json(value: Any) -> str:
    """JSON: indented for a person, one line for a pipe."""
    import json

    if sys.stdout.isatty():
        return json.dumps(value, indent=2, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
