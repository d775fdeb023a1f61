"""Which file in a folder is the model: KServe's rules, and errors that show what is there."""

from __future__ import annotations

from pathlib import Path

from kedge.server.errors import ModelFileMissing, ModelLoadFailed
from kedge.server.folders import SETTINGS

_SHOWN = 10
_LFS = b"version https://git-lfs"


def find_model_file(
    folder: Path, endings: tuple[str, ...], runtime: str, *, xml: bool = False
) -> Path:
    """The one file directly in `folder` with one of the endings; only `xml` may begin as XML."""
    if not folder.exists():
        raise ModelLoadFailed(
            f"The model folder {folder} does not exist.",
            fix="Point storageUri (--model_dir) at the folder that holds the model file.",
        )
    if folder.is_file():
        raise ModelLoadFailed(
            f"{folder} is a file, but a model is a folder.",
            fix=f"Point storageUri (--model_dir) at {folder.parent}.",
        )
    entries = _entries(folder)
    found = [
        entry
        for entry in entries
        if entry.name.endswith(endings) and entry.is_file() and entry.name != SETTINGS
    ]
    if not found:
        raise ModelFileMissing(
            f"No {runtime} model in {folder}: {_describe(entries)}.",
            fix=f"Put one file there that ends in {_either(endings)}{_rename_hint(entries)}.",
        )
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise ModelLoadFailed(
            f"More than one model file is detected, Only one is allowed within model_dir: "
            f"[{names}] in {folder}.",
            fix=f"Leave one of them in {folder}.",
        )
    _check_content(found[0], xml=xml)
    return found[0]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ModelLoadFailed(
            f"The model folder {folder} cannot be read: {error.strerror}.",
            fix=f"Give the server's user read access to {folder}.",
        ) from error


def has_model_file(folder: Path, endings: tuple[str, ...]) -> bool:
    return folder.is_dir() and any(entry.name.endswith(endings) for entry in folder.iterdir())


def _describe(entries: list[Path]) -> str:
    if not entries:
        return "the folder is empty"
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries[:_SHOWN]]
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return f"it holds {', '.join(names)}{more}"


def _either(endings: tuple[str, ...]) -> str:
    return endings[0] if len(endings) == 1 else f"{', '.join(endings[:-1])} or {endings[-1]}"


def _rename_hint(entries: list[Path]) -> str:
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry.is_file()]
    if len(folders) == 1 and not files:
        return f", or point storageUri (--model_dir) at {folders[0].name}/ in it"
    return ""


def _check_content(path: Path, *, xml: bool) -> None:
    """What no framework needs to be asked: unreadable, empty, a pointer, a web page."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelLoadFailed(
            f"{path} cannot be read: {error.strerror}.",
            fix=f"Give the server's user read access to {path}.",
        ) from error
    if not head:
        raise ModelLoadFailed(f"{path} is empty (0 bytes).", fix="Save and upload the model again.")
    if head.startswith(_LFS):
        raise ModelLoadFailed(
            f"{path} is a Git LFS pointer, not the model.",
            fix="Run `git lfs pull` where the file came from and upload what it brings.",
        )
    foreign = (b"<!doctype", b"<html") if xml else (b"<!doctype", b"<html", b"<?xml")
    if head.lstrip().lower().startswith(foreign):
        raise ModelLoadFailed(
            f"{path} is a web page or XML, not a model.",
            fix="The download probably answered an error or login page: fetch the file again.",
        )
