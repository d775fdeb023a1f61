"""Archives stay in their folder, and are there as a whole or not at all."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kedge.storage import archives
from kedge.storage.archives import unpack_single
from kedge.storage.errors import StorageError


def tar(path: Path, *members: tarfile.TarInfo | str) -> None:
    with tarfile.open(path, "w:gz") as opened:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = 2 if info.isfile() else 0
            opened.addfile(info, io.BytesIO(b"ok"))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name in names:
            opened.writestr(name, "ok")


@pytest.mark.parametrize(("make", "name"), [(tar, "m.tar.gz"), (tar, "m.tgz"), (zipped, "m.zip")])
def test_the_archive_gives_way_to_its_files(
    tmp_path: Path, make: Callable[..., None], name: str
) -> None:
    make(tmp_path / name, "model.joblib", "code/helper.py")
    unpack_single(tmp_path, print)
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*")) == [
        "code",
        "code/helper.py",
        "model.joblib",
    ]


def test_other_files_beside_it_leave_it_alone(tmp_path: Path) -> None:
    tar(tmp_path / "m.tgz", "model.joblib")
    (tmp_path / "other").touch()
    unpack_single(tmp_path, print)
    assert (tmp_path / "m.tgz").exists()


UNSAFE = [
    ("/etc/passwd", "absolute"),
    ("../up", "outside"),
    ("a/../../up", "outside"),
    ("C:\\x", "absolute"),
]


@pytest.mark.parametrize(("member", "why"), UNSAFE)
@pytest.mark.parametrize(("make", "name"), [(tar, "m.tar"), (zipped, "m.zip")])
def test_members_that_lead_outside_are_refused(
    tmp_path: Path, make: Callable[..., None], name: str, member: str, why: str
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    make(folder / name, "good", member)
    with pytest.raises(StorageError, match=why):
        unpack_single(folder, print)
    assert [one.name for one in folder.iterdir()] == [name]
    assert [one.name for one in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize(
    "member",
    [
        link("l", "/etc/passwd"),
        link("l", "../../up"),
        link("l", "/etc/passwd", tarfile.LNKTYPE),
        link("d", "", tarfile.CHRTYPE),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    tar(tmp_path / "m.tgz", member)
    with pytest.raises(StorageError, match=r"outside|link"):
        unpack_single(tmp_path, print)


def test_zipped_links_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as opened:
        info = zipfile.ZipInfo("l")
        info.external_attr = 0o120777 << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(StorageError, match="is a link"):
        unpack_single(tmp_path, print)


@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz", "m.tar"])
def test_damaged_archives_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"junk" * 200)
    with pytest.raises(StorageError, match=f"Failed to unpack archive file {name}"):
        unpack_single(tmp_path, print)
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_cut_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    tar(tmp_path / "m.tgz", *[f"file-{number}" for number in range(50)])
    whole = (tmp_path / "m.tgz").read_bytes()
    (tmp_path / "m.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="not valid"):
        unpack_single(tmp_path, print)
    assert [one.name for one in tmp_path.iterdir()] == ["m.tgz"]


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    tar(tmp_path / "m.tgz", "a", "b", "c")
    with pytest.raises(StorageError, match="more than 2 files"):
        unpack_single(tmp_path, print)
