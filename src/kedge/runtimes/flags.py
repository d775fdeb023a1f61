"""Flags that one runtime alone knows: read from what the server's own parser leaves over."""

from __future__ import annotations

import argparse
from typing import NoReturn

from kedge.server.errors import BadUsage
from kedge.server.options import Options


class Flags(argparse.ArgumentParser):
    """A parser that takes `--a_b` and `--a-b` alike, and tells faults as the server does."""

    def __init__(self, runtime: str) -> None:
        super().__init__(prog=f"kedge serve {runtime}", add_help=False, allow_abbrev=False)

    def flag(self, name: str, *, default: str = "", choices: tuple[str, ...] | None = None) -> None:
        self.add_argument(*_spellings(name), default=default, choices=choices)

    def switch(self, name: str) -> None:
        """On when it is given, or given as true."""
        self.add_argument(*_spellings(name), nargs="?", const=True, default=False, type=_boolean)

    def read(self, options: Options) -> argparse.Namespace:
        return self.parse_known_args(list(options.unknown))[0]

    def left_over(self, options: Options) -> list[str]:
        """What this runtime does not know either."""
        return self.parse_known_args(list(options.unknown))[1]

    def error(self, message: str) -> NoReturn:
        raise BadUsage(f"{self.prog}: {message}.", fix="See docs/reference/runtimes.md.")


def _spellings(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")))


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
