"""What stands in for a container image: a command, an environment, a folder.

There is no container engine here. An image name is looked up in the user's `images.yaml` (read
again whenever it changes, so that a pod that waits for its image heals by itself) and then in the
built-in rules.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import kedge
from kedge.lib.errors import KedgeError
from kedge.settings.node import ImageRule, ImagesError, NodeSettings, parse_images


class ImageMissing(KedgeError):
    """Nothing maps to an image."""

    reason = "ErrImagePull"


@dataclass(frozen=True)
class Image:
    """What an image brings to a container.

    Attributes:
        argv: the entrypoint.
        env: the environment.
        workdir: the working directory; empty for none.
        interpreter: what the words `python` and `python3` mean in a command.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    interpreter: str = sys.executable

    def command(self, command: list[str], args: list[str]) -> list[str]:
        """The words to run: a container's command replaces the entrypoint."""
        argv = [*(command or self.argv), *args]
        if argv and argv[0] in ("python", "python3"):
            argv[0] = self.interpreter
        return argv


class Images:
    """The image rules of one node."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._file = settings.images_file
        self._stamp: tuple[int, int] | None = None
        self._user_rules: tuple[ImageRule, ...] = ()

    def resolve(self, name: str) -> Image:
        """What stands in for an image.

        Raises:
            ImageMissing: nothing maps to it, or `images.yaml` cannot be read.
        """
        try:
            self._read_user_rules()
        except (ImagesError, OSError) as error:
            fix = error.fix if isinstance(error, ImagesError) else ""
            raise ImageMissing(f"image {name!r}: {error.args[-1]}", fix=fix) from error
        for rule in (*self._user_rules, *self._settings.images):
            if rule.matches(name):
                return self._make_image(rule)
        raise ImageMissing(
            f"image {name!r}: nothing on this machine maps to it, and there is no container"
            " engine.",
            fix=f"Map it in {self._file}, for example:"
            f" `images: [{{pattern: '{name}', command: [python, -m, my_model]}}]`"
            " (`python:` may name an environment, `workdir:` the folder of its code).",
        )

    def _read_user_rules(self) -> None:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            self._user_rules, self._stamp = (), None
            return
        stamp = (found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._user_rules = parse_images(self._file.read_text(), str(self._file))
            self._stamp = stamp

    def _make_image(self, rule: ImageRule) -> Image:
        interpreter = _interpreter(rule.python) if rule.python else self._settings.python
        env = {"PYTHONUNBUFFERED": "1", "PATH": self._path(interpreter)}
        folders = [rule.workdir] if rule.workdir else []
        if interpreter == self._settings.python:
            folders += _kedge_folder()
        if folders:
            env["PYTHONPATH"] = os.pathsep.join(folders)
        return Image(rule.argv, {**env, **rule.env}, rule.workdir, interpreter)

    def _path(self, interpreter: str) -> str:
        """The search path, with the interpreter's own tools first."""
        inherited = self._settings.environ.get("PATH") or os.defpath
        return os.pathsep.join([str(Path(interpreter).parent), inherited])


def _interpreter(place: str) -> str:
    """An interpreter, from its path or from that of its virtual environment."""
    path = Path(place).expanduser()
    return str(path / "bin" / "python") if path.is_dir() else str(path)


def _kedge_folder() -> list[str]:
    """Where Kedge itself is imported from, unless every interpreter finds it by itself."""
    parent = Path(kedge.__file__).parent.parent
    return [] if parent.name in ("site-packages", "dist-packages") else [str(parent)]
