"""Python that comes with a model: the folder `code/` beside it, `requirements.txt`, and its files.

Models bring code for what no package holds: a custom transformer, a network's class. It runs with
the server's rights, as a pickle does; what it raises is told with the line that raised it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
import weakref
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from kedge.runtimes.versions import release
from kedge.server.errors import ModelLoadFailed

CODE = "code"
REQUIREMENTS = "requirements.txt"

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[[^]]*\])?\s*(?P<versions>[^;#@]*)")
_CLAUSE = re.compile(r"(===|==|>=|<=|~=|!=|<|>)\s*([\w.*+!-]+)")
_PACKAGES = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def make_importable(folder: Path) -> None:
    """Modules in the model's `code/` can be imported, now and when the model first needs them.

    Those of an earlier load, or of another version of the model, are forgotten.
    """
    _forget(folder)
    path = folder / CODE
    if path.is_dir() and str(path) not in sys.path:
        sys.path.insert(0, str(path))
        importlib.invalidate_caches()


def _forget(folder: Path) -> None:
    versions = folder.parent.iterdir() if folder.name.isdecimal() else ()
    folders = (folder, *(one for one in versions if one.name.isdecimal()))
    # A first load has nothing to forget, and a forked server is best off touching nothing.
    known = [one for one in folders if {str(one), str(one / CODE)}.intersection(sys.path)]
    for one in known:
        code = f"{one / CODE}{os.sep}"
        for name, module in sys.modules.copy().items():  # A list could meet an import halfway.
            file = getattr(module, "__file__", None) or ""
            if file.startswith(code) or os.path.dirname(file) == str(one):
                del sys.modules[name]
        if one != folder:
            sys.path[:] = [path for path in sys.path if path not in (str(one), str(one / CODE))]
    if known:
        importlib.invalidate_caches()


def package_of(module: str) -> str:
    """What to install for a module, where the two have different names."""
    return _PACKAGES.get(module, module)


def import_file(path: Path, model: str) -> ModuleType:
    """Runs a model's Python file as a module of its own; files beside it can be imported."""
    make_importable(path.parent)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"kedge_model_{re.sub(r'[^0-9A-Za-z]', '_', model)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the file ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Not by the loader: it takes compiled code for current that is of the same second.
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        raise failure(path, error) from error
    return module


def leave_with(owner: object, module: ModuleType) -> None:
    """A model's module is forgotten when its `owner` is gone, unless a later load has its name."""
    weakref.finalize(owner, _leave, weakref.ref(module)).atexit = False


def _leave(module: weakref.ref[ModuleType]) -> None:
    found = module()
    if found is not None and sys.modules.get(found.__name__) is found:
        del sys.modules[found.__name__]


def failure(path: Path, error: Exception) -> ModelLoadFailed:
    """What a model's own code raised, and where."""
    if isinstance(error, ModelLoadFailed):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        return ModelLoadFailed(
            f"{path} imports {error.name}, which is not installed.",
            fix=f"Install it beside Kedge (pip install {package_of(top)}), or put the "
            f"module into {path.parent / CODE}.",
        )
    if isinstance(error, SyntaxError):
        where = f"{error.filename or path}, line {error.lineno}"
        return ModelLoadFailed(f"{where}: {error.msg}.", fix="Correct that line.")
    return ModelLoadFailed(
        f"{path} raised {type(error).__name__}: {_first_line(error)} ({_where(path, error)}).",
        fix="Correct the model's code; the traceback is what `python` prints for that file.",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or "no message"


def _where(path: Path, error: Exception) -> str:
    """The innermost line of the model's own files."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if one.filename.startswith(str(path.parent))]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


def check_requirements(path: Path) -> None:
    """What `requirements.txt` asks for is installed in a version it allows."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        wanted = line.partition(" #")[0].strip()
        if not wanted or wanted.startswith(("#", "-")) or "@" in wanted or ";" in wanted:
            continue
        if found := _REQUIREMENT.fullmatch(wanted):
            _check(f"{path}, line {number}", wanted, found["name"], found["versions"])


def _check(where: str, wanted: str, name: str, versions: str) -> None:
    fix = f"pip install '{wanted}', or change {REQUIREMENTS}."
    try:
        installed = version(name)
    except PackageNotFoundError:
        raise ModelLoadFailed(
            f"{where}: the model needs {wanted}, which is not installed.", fix=fix
        ) from None
    clauses = _CLAUSE.findall(versions)
    if not all(_allows(installed, relation, bound) for relation, bound in clauses):
        raise ModelLoadFailed(
            f"{where}: the model needs {wanted}, but {name} {installed} is installed.", fix=fix
        )


def _allows(installed: str, relation: str, bound: str) -> bool:
    have, want = release(installed), release(bound)
    width = max(len(have), len(want))
    have_full, want_full = _padded(have, width), _padded(want, width)
    if relation in ("==", "===", "!="):
        equal = have[: len(want)] == want if bound.endswith(".*") else have_full == want_full
        return equal is (relation != "!=")
    if relation == "~=":
        return have_full >= want_full and have[: len(want) - 1] == want[:-1]
    return {
        ">=": have_full >= want_full,
        "<=": have_full <= want_full,
        ">": have_full > want_full,
        "<": have_full < want_full,
    }[relation]


def _padded(parts: tuple[int, ...], width: int) -> tuple[int, ...]:
    return parts + (0,) * (width - len(parts))
