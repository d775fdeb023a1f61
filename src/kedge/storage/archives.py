"""Unpacking what was brought, into a folder and nowhere else.

An archive whose members point outside (absolute names, `..`, links) is refused as a whole. Members
are unpacked beside their place and moved when all are there.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from kedge.storage.errors import StorageError, disk_full

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_MEMBERS = 1_000_000
_HIDDEN = ".kedge-"


def unpack_single(folder: Path, report: Callable[[str], None]) -> None:
    """Unpacks the one file of `folder` when it is an archive, and removes it."""
    files = [entry for entry in folder.iterdir() if not entry.name.startswith(_HIDDEN)]
    if len(files) != 1 or not files[0].is_file():
        return
    name = files[0].name.lower()
    if name.endswith(".zip") or name.endswith(TAR_ENDINGS):
        count = unpack(files[0], folder)
        files[0].unlink()
        report(f"{files[0].name}: unpacked {count} files into {folder}")


def unpack(archive: Path, folder: Path) -> int:
    """Unpacks `archive` into `folder`; how many files it held."""
    with tempfile.TemporaryDirectory(prefix=f"{_HIDDEN}unpack-", dir=folder) as scratch:
        inside = Path(scratch)
        try:
            if archive.name.lower().endswith(".zip"):
                count = _unpack_zip(archive, inside)
            else:
                count = _unpack_tar(archive, inside)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise StorageError(
                f"Failed to unpack archive file {archive.name}. The file format is not valid: "
                f"{error}.",
                fix="Make the archive anew and check that its upload was complete.",
            ) from error
        for entry in inside.iterdir():
            _move(entry, folder / entry.name, archive)
    return count


def _move(entry: Path, target: Path, archive: Path) -> None:
    if target == archive:
        raise StorageError(
            f"{archive.name} holds a file of its own name.", fix="Rename the archive."
        )
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    entry.replace(target)


def _unsafe(archive: Path, member: str, why: str) -> StorageError:
    return StorageError(
        f"{archive.name} is refused: its member {member[:100]!r} {why}.",
        fix="Make the archive from inside the model's folder: tar -czf model.tar.gz *",
        reason="UnsafeArchive",
    )


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or (len(name) > 1 and name[1] == ":"):
        raise _unsafe(archive, name, "has an absolute name")
    if ".." in path.parts:
        raise _unsafe(archive, name, "points outside the model's folder")


def _check_size(archive: Path, members: int, size: int, folder: Path) -> None:
    if members > MAX_MEMBERS:
        raise StorageError(
            f"{archive.name} holds more than {MAX_MEMBERS} files.", fix="Split the archive."
        )
    if size > shutil.disk_usage(folder).free:
        raise disk_full(folder, size)


def _unpack_tar(archive: Path, folder: Path) -> int:
    def checked(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        _check_name(archive, member.name)
        try:
            return tarfile.data_filter(member, path)
        except tarfile.FilterError as error:
            raise _unsafe(archive, member.name, "is a link or device that leads outside") from error

    count = 0
    with tarfile.open(archive) as opened:
        for member in opened:
            count += 1
            _check_size(archive, count, member.size, folder)
            opened.extract(member, folder, filter=checked)
    return count


def _unpack_zip(archive: Path, folder: Path) -> int:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        _check_size(archive, len(members), sum(one.file_size for one in members), folder)
        for member in members:
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe(archive, member.filename, "is a link")
        for member in members:
            opened.extract(member, folder)
    return len(members)
