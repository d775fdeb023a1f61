"""Which folder holds a model, and in which version.

A folder may hold the model's files; numbered folders, each a version of it, of which the highest is
served; or folders of other names, each a model (or its versions) of its own. Beside the files, a
`model-settings.json` as MLServer reads it may name the version.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kedge.server.errors import ModelFileMissing, ModelLoadFailed
from kedge.server.model import Model
from kedge.server.options import Options

SETTINGS = "model-settings.json"


class Runtime(Protocol):
    """What a module of `kedge.runtimes` offers.

    One that also says `FORKABLE = True` knows that a loaded and tried model holds no threads and
    no device, so that workers may be forked from the process that loaded it. One with `has_model`
    knows folders that cannot be told by the names of their files.
    """

    ENDINGS: tuple[str, ...]
    make: Callable[[str, Path, Options], Model]


class Folders:
    """The models below `--model_dir`."""

    def __init__(self, runtime: Runtime, options: Options) -> None:
        self._runtime = runtime
        self._options = options
        self._root = Path(options.model_dir)

    def models(self) -> list[Model]:
        """The one of the folder; or, where it holds only folders, one of each that holds one."""
        root = self._root
        if root.is_dir() and self._found(root) is None:
            inner = [one for one in sorted(root.iterdir()) if one.is_dir()]
            models = [self._make(one.name, one) for one in inner if self._found(one) is not None]
            if models:
                return models
        return [self._make(self._options.model_name, root)]

    def load(self, name: str) -> Model:
        """How the repository extension finds a model: its own folder, or one of its name within."""
        root = self._root
        if name == self._options.model_name and root.is_dir() and self._found(root) is not None:
            return self._make(name, root)
        inner = root / name
        if Path(name).name != name or not inner.is_dir():
            raise ModelFileMissing(f"There is no folder {name} in {root}.")
        return self._make(name, inner)

    def _make(self, name: str, folder: Path) -> Model:
        found = self._found(folder) if folder.is_dir() else None
        model = self._runtime.make(name, found or folder, self._options)
        if found is not None and not model.version:
            model.version = found.name if found != folder else _declared_version(folder)
        return model

    def _found(self, folder: Path) -> Path | None:
        """Where the model's files are: here, or in the highest number that has any."""
        if self._holds(folder):
            return folder
        numbers = [one for one in folder.iterdir() if one.name.isdecimal() and one.is_dir()]
        numbers.sort(key=lambda one: -int(one.name))
        return next((one for one in numbers if self._holds(one)), None)

    def _holds(self, folder: Path) -> bool:
        """By the files' names, unless the runtime knows folders of another form."""
        has_model: Callable[[Path], bool] | None = getattr(self._runtime, "has_model", None)
        if has_model is not None:
            return has_model(folder)
        return any(
            one.name.endswith(self._runtime.ENDINGS) and one.name != SETTINGS
            for one in folder.iterdir()
        )


def _declared_version(folder: Path) -> str:
    path = folder / SETTINGS
    if not path.is_file():
        return ""
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelLoadFailed(
            f"{path} is not JSON: {error}.", fix="Correct it, or remove it."
        ) from error
    parameters = settings.get("parameters") if isinstance(settings, dict) else None
    version = parameters.get("version") if isinstance(parameters, dict) else None
    return str(version) if version else ""
