"""Kedge's images without a container engine: an archive for a node that has containerd alone.

    python -m tests.kubernetes.images kedge.tar [controller gateway ...]
    ctr --namespace k8s.io images import --all-platforms kedge.tar

What an image holds and runs is read from the Dockerfile. In the place of `python:slim` stand this
machine's Python, C library and a few tools; packages have the versions of `requirements/dev.txt`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.kubernetes import dockerfile

from kedge import __version__

NEEDED = ("controller", "gateway", "envoy", "storage-initializer", "sklearnserver")
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLACE = "/opt/kedge"
_TOOLS = ("sh", "sleep", "cat", "ls", "env", "id")
_LIBRARIES = (
    "libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1",
    "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1",
)  # fmt: skip
"""What wheels ask for besides what Python does."""
_LEFT_OUT = ("__pycache__", "test", "site-packages", "idlelib", "lib2to3", "tkinter",
             "ensurepip", "config-*")  # fmt: skip
_BORN = 1_700_000_000
"""Seconds at which all files were made, so that the same files make the same image."""


def make_archive(archive: Path, images: Iterable[str] = NEEDED, *, prefix: str = "kedge/") -> None:
    """Write the images as one archive, in which equal layers are there once."""
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(archive, "w") as out:
        layers = _Layers(Path(scratch), out)
        base = layers.add("base", _make_base)
        manifest = []
        for name in images:
            own = [layers.add(f"{stage} {place}", _Copy(stage, place))
                   for stage, place in dockerfile.copied(name)]  # fmt: skip
            digests = [base, *own]
            config = json.dumps(_config(name, digests)).encode()
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add_bytes(out, config_name, config)
            manifest.append({
                "Config": config_name,
                "RepoTags": [f"docker.io/{prefix}{name}:{__version__}"],
                "Layers": [f"{digest}/layer.tar" for digest in digests],
            })  # fmt: skip
        _add_bytes(out, "manifest.json", json.dumps(manifest).encode())


def _config(name: str, layers: list[str]) -> dict[str, Any]:
    environment = dockerfile.environment(name, _PATH)
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {
            "Env": [f"{key}={value}" for key, value in environment.items()],
            "Entrypoint": json.loads(dockerfile.last(name, "ENTRYPOINT")),
            "User": dockerfile.last(name, "USER"),
            "WorkingDir": dockerfile.last(name, "WORKDIR"),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]},
    }


class _Layers:
    """Layers of an archive, each written once."""

    def __init__(self, scratch: Path, out: tarfile.TarFile) -> None:
        self._scratch = scratch
        self._out = out
        self._made: dict[str, str] = {}

    def add(self, key: str, make: Any) -> str:
        """The digest of the layer that `make(root)` fills."""
        if key not in self._made:
            root = self._scratch / "root"
            root.mkdir()
            make(root)
            self._made[key] = self._write(root)
            shutil.rmtree(root)
        return self._made[key]

    def _write(self, root: Path) -> str:
        file = self._scratch / "layer.tar"
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as layer:
            for entry in sorted(root.iterdir()):
                layer.add(entry, entry.name, filter=_of_root)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        self._out.add(file, f"{digest}/layer.tar")
        file.unlink()
        return digest


def _of_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = _BORN
    return info


def _add_bytes(out: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    out.addfile(info, io.BytesIO(data))


def _make_base(root: Path) -> None:
    """A Debian of this machine's files: Python, the C library, a shell, certificates."""
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin", "usr/local/lib",
                   "etc/ssl/certs", "proc", "sys", "dev", "run", "var", "opt", "mnt"):  # fmt: skip
        (root / folder).mkdir(parents=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).mkdir()
        (root / folder).chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nkedge:x:65532:65532::/tmp:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nkedge:x:65532:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    (root / "etc/ld.so.conf").write_text("/usr/local/lib\n")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs")
    programs = [Path(shutil.which(tool) or tool).resolve() for tool in _TOOLS]
    for tool, program in zip(_TOOLS, programs, strict=True):
        shutil.copy(program, root / "usr/bin" / tool)
    _copy_libraries(root, [*programs, *_copy_python(root)])
    subprocess.run(["/sbin/ldconfig", "-r", str(root)], check=True, stderr=subprocess.DEVNULL)


def _copy_python(root: Path) -> list[Path]:
    """The program and its library; what of it has libraries of its own."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix, local = Path(sys.base_prefix), root / "usr/local"
    shutil.copy(prefix / "bin" / version, local / "bin")
    for name in ("python", "python3"):
        (local / "bin" / name).symlink_to(version)
    for library in prefix.glob(f"lib/lib{version}*.so*"):
        shutil.copy(library, local / "lib")
    ignored = shutil.ignore_patterns(*_LEFT_OUT)
    shutil.copytree(prefix / "lib" / version, local / "lib" / version, ignore=ignored)
    _compile(local / "lib" / version, "/usr/local/lib")
    return [prefix / "bin" / version, *(prefix / "lib" / version / "lib-dynload").glob("*.so")]


def _copy_libraries(root: Path, programs: list[Path]) -> None:
    """Every shared library that the programs ask for, where the loader looks."""
    told = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True).stdout
    cached = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    wanted = set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", told, re.MULTILINE))
    for library in _LIBRARIES:
        found = re.search(rf"^\s+{re.escape(library)} .*=> (\S+)$", cached, re.MULTILINE)
        wanted |= {found[1]} if found else set()
    for path in sorted(wanted):
        if not path.startswith(sys.base_prefix):
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


class _Copy:
    """What `COPY --from=stage` brings to a place: the virtual environment, or Envoy."""

    def __init__(self, stage: str, place: str) -> None:
        self._stage = stage
        self._place = place

    def __call__(self, root: Path) -> None:
        target = root / self._place.lstrip("/")
        target.parent.mkdir(parents=True)
        if self._place == _PLACE:
            _make_environment(target, dockerfile.installed(self._stage))
        else:
            from kedge.gateway.bootstrap import find_envoy

            shutil.copy(find_envoy(), target)
            target.chmod(0o755)


def _make_environment(place: Path, wanted: str) -> None:
    """A virtual environment with Kedge in it, as if it had been made in the image."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(dockerfile.ROOT / name, source)
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(dockerfile.ROOT / "src", source / "src", ignore=ignored)
        _install(place, f"{source}{wanted.removeprefix('.')}")
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("python", "python3", python):
        (place / "bin" / name).unlink(missing_ok=True)
        (place / "bin" / name).symlink_to(f"/usr/local/bin/{python}")
    settings = place / "pyvenv.cfg"
    kept = "home = /usr/local/bin\ninclude-system-site-packages = false\n"
    settings.write_text(kept + f"version = {sys.version.split()[0]}\n")
    for script in (place / "bin").iterdir():
        if not script.is_symlink() and (text := script.read_bytes()).startswith(b"#!"):
            script.write_bytes(text.replace(str(place).encode(), _PLACE.encode()))
    _compile(place / "lib", _PLACE)


def _install(place: Path, wanted: str) -> None:
    locked = str(dockerfile.ROOT / "requirements" / "dev.txt")
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv:
        command = [uv, "pip", "install", "--quiet", "--link-mode=copy",
                   "--python", str(place / "bin/python")]  # fmt: skip
    else:
        command = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"),
                   "install", "--quiet", "--no-compile"]  # fmt: skip
    subprocess.run([*command, "-c", locked, wanted], check=True)


def _compile(folder: Path, shown: str) -> None:
    """Byte code that needs no look at a file's time, which an image changes."""
    subprocess.run(
        [sys.executable, "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash",
         "-s", str(folder.parent), "-p", shown, str(folder)],
        check=False,
    )  # fmt: skip


if __name__ == "__main__":
    make_archive(Path(sys.argv[1]), sys.argv[2:] or NEEDED)
