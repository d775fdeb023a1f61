"""Limits by the kernel: one control group per container, where we may make any.

Version 2 where its memory controller can be used, else version 1. Where neither can be written
(an unprivileged shell outside a delegated tree, most containers), `Cgroups.find` gives one that
limits nothing, and the agent samples memory instead (`memory_watch`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

_PERIOD = 100_000
_CONTROLLERS = ("memory", "cpu")


@dataclass(frozen=True)
class Limits:
    """What a container may use, and its weight when cores are short. None is no limit."""

    memory: int | None = None
    cpu: float | None = None
    cpu_request: float = 0.1

    @property
    def shares(self) -> int:
        return max(2, int(self.cpu_request * 1024))


@dataclass(frozen=True)
class Cgroups:
    """Our folders in the control group trees.

    Attributes:
        memory: parent of the containers' groups in the tree with the memory controller.
        cpu: likewise for the CPU controller; the same folder in version 2.
        unified: version 2.
    """

    memory: Path | None = None
    cpu: Path | None = None
    unified: bool = False

    @classmethod
    def find(cls, data_dir: Path, proc: Path = Path("/proc")) -> Cgroups:
        """Make our folder in each tree that we may write to."""
        digest = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:8]
        name = f"kedge-{digest}"
        try:
            mounts, groups = _mounts(proc), _groups(proc)
        except OSError:
            return cls()
        if "" in groups and "" in mounts:
            base = _unified_base(mounts[""], groups[""], name)
            if base is not None:
                has_cpu = "cpu" in _read(base / "cgroup.subtree_control").split()
                return cls(memory=base, cpu=base if has_cpu else None, unified=True)
        found: dict[str, Path | None] = {}
        for controller in _CONTROLLERS:
            root, group = mounts.get(controller), groups.get(controller)
            found[controller] = _made(root, group, name) if root and group else None
        return cls(memory=found["memory"], cpu=found["cpu"])

    def weigh(self, cores: float) -> None:
        """All pods together weigh as much as the machine's cores, as on any Kubernetes node."""
        if self.cpu is not None:
            self._set_shares(self.cpu, max(2, int(cores * 1024)))

    def make(self, container: str, limits: Limits) -> list[str]:
        """A fresh group for a container's next run; the folders that its process must enter."""
        self.remove(container)
        folders = []
        for folder in self._folders(container):
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                folders.append(str(folder))
        if self.memory is not None and limits.memory is not None:
            self._limit_memory(self.memory / container, limits.memory)
        if self.cpu is not None:
            self._limit_cpu(self.cpu / container, limits)
        return folders

    def limits_memory(self) -> bool:
        return self.memory is not None

    def oom_kills(self, container: str) -> int:
        """How many processes the kernel killed there for memory."""
        if self.memory is None:
            return 0
        file = "memory.events" if self.unified else "memory.oom_control"
        for line in _read(self.memory / container / file).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    def peak(self, container: str) -> int | None:
        """The most memory that the container used, in bytes."""
        if self.memory is None:
            return None
        file = "memory.peak" if self.unified else "memory.max_usage_in_bytes"
        text = _read(self.memory / container / file).strip()
        return int(text) if text else None

    def remove(self, container: str) -> None:
        for folder in self._folders(container):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def remove_strays(self, wanted: set[str]) -> None:
        """Remove the groups of pods that are no more; `wanted` are the uids of those that are."""
        for base in {folder for folder in (self.memory, self.cpu) if folder is not None}:
            for folder in base.iterdir():
                if folder.is_dir() and folder.name.partition(".")[0] not in wanted:
                    with contextlib.suppress(OSError):
                        folder.rmdir()

    def _folders(self, container: str) -> list[Path]:
        bases = [folder for folder in (self.memory, self.cpu) if folder is not None]
        return [base / container for base in dict.fromkeys(bases)]

    def _limit_memory(self, folder: Path, limit: int) -> None:
        if self.unified:
            _write(folder / "memory.max", str(limit))
            _write(folder / "memory.swap.max", "0")
            _write(folder / "memory.oom.group", "1")
        else:
            _write(folder / "memory.limit_in_bytes", str(limit))
            _write(folder / "memory.memsw.limit_in_bytes", str(limit))

    def _limit_cpu(self, folder: Path, limits: Limits) -> None:
        self._set_shares(folder, limits.shares)
        if not limits.cpu:
            return
        quota = int(limits.cpu * _PERIOD)
        if self.unified:
            _write(folder / "cpu.max", f"{quota} {_PERIOD}")
        else:
            _write(folder / "cpu.cfs_period_us", str(_PERIOD))
            _write(folder / "cpu.cfs_quota_us", str(quota))

    def _set_shares(self, folder: Path, shares: int) -> None:
        if self.unified:
            weight = 1 + (shares - 2) * 9999 // 262142
            _write(folder / "cpu.weight", str(min(10000, weight)))
        else:
            _write(folder / "cpu.shares", str(shares))


def _mounts(proc: Path) -> dict[str, tuple[Path, str]]:
    """Controller (empty for version 2) -> where its tree is mounted, and which part of it."""
    found: dict[str, tuple[Path, str]] = {}
    for line in (proc / "self" / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(" ", 2)
        place = (Path(fields[4]), fields[3])
        if kind == "cgroup2":
            found[""] = place
        elif kind == "cgroup":
            for option in options.split(","):
                if option in _CONTROLLERS:
                    found[option] = place
    return found


def _groups(proc: Path) -> dict[str, str]:
    """Controller (empty for version 2) -> our own group."""
    found = {}
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = group
    return found


def _place(mount: tuple[Path, str], group: str) -> Path:
    root, part = mount
    return root / os.path.relpath(group, part) if part != "/" else root / group.lstrip("/")


def _made(mount: tuple[Path, str], group: str, name: str) -> Path | None:
    folder = _place(mount, group) / name
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder / "cgroup.procs", os.W_OK) else None


def _unified_base(mount: tuple[Path, str], group: str, name: str) -> Path | None:
    """Groups with processes have no controllers for children: go up to one that hands them on."""
    place = _place(mount, group)
    for parent in (place, *place.parents):
        if not parent.is_relative_to(mount[0]):
            return None
        if "memory" not in _read(parent / "cgroup.subtree_control").split():
            continue
        base = parent / name
        try:
            base.mkdir(exist_ok=True)
            _write(base / "cgroup.subtree_control", "+memory")
        except OSError:
            return None
        if "memory" not in _read(base / "cgroup.subtree_control").split():
            return None
        _write(base / "cgroup.subtree_control", "+cpu")
        return base
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """Not every kernel has every file; what matters is checked by reading it back."""
    with contextlib.suppress(OSError):
        path.write_text(text)
