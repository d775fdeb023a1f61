"""Writes `docs/reference/runtimes.md` from the runtimes' own modules.

`python -m kedge.runtimes.reference docs/reference/runtimes.md`
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import kedge.runtimes

_HEAD = """\
# Runtimes

Written from the runtimes by `python -m kedge.runtimes.reference docs/reference/runtimes.md`.

`kedge serve NAME --model_name=m --model_dir=FOLDER` serves the one model in a folder; a folder of
such folders is served as a repository, each model under its folder's name. All answer V1, Open
Inference V2 (JSON and binary) and gRPC. A framework is an extra of the package:
`pip install 'kedge[server,onnx]'`.

Modules in `code/` beside a scikit-learn, PyTorch or plain Python model can be imported by it.
"""

_EXTRAS = {"python": "", "predictive": ""}


def runtimes() -> list[tuple[str, ModuleType]]:
    """The modules that `kedge serve` can name."""
    names = sorted(one.name for one in pkgutil.iter_modules(kedge.runtimes.__path__))
    modules = [(name, import_module(f"kedge.runtimes.{name}")) for name in names]
    return [(name, module) for name, module in modules if hasattr(module, "make")]


def document() -> str:
    return "\n".join([_HEAD, *(line for one in runtimes() for line in _section(*one))])


def _section(name: str, module: ModuleType) -> Iterator[str]:
    title, _, rest = (module.__doc__ or "").strip().partition("\n")
    yield f"## {name}\n"
    yield f"{title}\n"
    if text := rest.strip():
        yield f"{text}\n"
    endings = ", ".join(f"`{one}`" for one in module.ENDINGS)
    yield f"- Files: {endings}"
    if extra := _EXTRAS.get(name, name):
        yield f"- Extra: `{extra}`"
    if flags := getattr(module, "flags", None):
        for action in flags()._actions:
            yield f"- Flag: `{_flag(action.option_strings[0], action.nargs, action.choices)}`"
    yield ""


def _flag(name: str, nargs: object, choices: object) -> str:
    if nargs == "?":
        return name
    values = "|".join(map(str, choices)) if isinstance(choices, tuple) else "..."
    return f"{name}={values}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
