"""The part of JSONPath that printer columns use.

Fields (`.status.url`, `['a.b']`), all items (`[*]`), one item (`[0]`) and items by a field's value
(`[?(@.type=='Ready')]`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

Step = Callable[[Any], Iterable[Any]]
Find = Callable[[Any], list[Any]]

_TOKEN = re.compile(
    r"\.(?P<field>(?:[^.\[\]\\]|\\.)+)"
    r"|\[\?\(@\.(?P<key>[\w.]+)\s*==\s*(?P<value>'[^']*'|\"[^\"]*\"|[^)]+)\)\]"
    r"|\[(?P<all>\*)\]"
    r"|\[(?P<index>-?\d+)\]"
    r"|\['(?P<quoted>[^']+)'\]"
)
_WORDS: dict[str, Any] = {"true": True, "false": False}


@cache
def compile_path(path: str) -> Find:
    """A function that finds every value at `path`.

    Raises:
        ValueError: the path uses what is not supported here.
    """
    steps: list[Step] = []
    at = 0
    while at < len(path):
        match = _TOKEN.match(path, at)
        if match is None:
            raise ValueError(f"JSONPath {path!r} cannot be read from position {at}")
        steps.append(_step(match))
        at = match.end()

    def find(obj: Any) -> list[Any]:
        values = [obj]
        for step in steps:
            values = [found for value in values for found in step(value)]
        return values

    return find


def _step(match: re.Match[str]) -> Step:
    if field := match["field"] or match["quoted"]:
        name = re.sub(r"\\(.)", r"\1", field)
        return lambda value: (value[name],) if isinstance(value, dict) and name in value else ()
    if match["all"]:
        return lambda value: value if isinstance(value, list) else ()
    if match["index"]:
        index = int(match["index"])
        return lambda value: value[index:][:1] if isinstance(value, list) else ()
    key, wanted = match["key"], _literal(match["value"])
    return lambda value: (
        [item for item in value if isinstance(item, dict) and item.get(key) == wanted]
        if isinstance(value, list)
        else ()
    )


def _literal(text: str) -> Any:
    if text[0] in "'\"":
        return text[1:-1]
    return _WORDS[text] if text in _WORDS else int(text)
