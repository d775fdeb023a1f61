"""`kedge up`: Kedge on one machine.

Three Python processes and Envoy, joined by the same wires as on Kubernetes::

    supervisor ── holds the life pipe, starts and restarts the parts
      ├── control   store, Kubernetes façade, workload and InferenceService controllers
      ├── data      xDS and route status for Envoy, node agent (reaches control over its API)
      ├── envoy     every inference request
      └── pods      one shim each, started by data, outliving it

Control and data are apart so that a large list never stalls the way of a request, and so that each
may die without the other.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from kedge.lib.errors import KedgeError
from kedge.modes import supervisor
from kedge.modes.listening import hold_ports
from kedge.settings.local import LocalSettings

START_TIMEOUT = 60.0
"""Longest wait, in seconds, for a detached Kedge to get ready."""
STOP_TIMEOUT = 30.0
"""Longest wait, in seconds, for a Kedge that was asked to end."""


class StartError(KedgeError):
    """Kedge cannot start here."""

    reason = "CannotStart"


def up(settings: LocalSettings, *, detach: bool = False) -> int:
    """Start Kedge; blocks until it is stopped, unless `detach`. The exit status.

    Raises:
        StartError: the data directory cannot be used, or a part does not start.
        PortTaken: a port is taken.
    """
    plan, held = prepare(settings)
    argv = [sys.executable, "-m", "kedge.modes.supervisor", str(plan)]
    # The supervisor inherits them, and passes them on to nobody.
    for one in held:
        one.set_inheritable(True)
    if not detach:
        sys.stdout.flush()
        # The command line's imports are of no use to a process that only waits: begin afresh.
        os.execv(sys.executable, argv)
    log = settings.logs_dir / "supervisor.log"
    with open(log, "ab") as output:
        began = output.tell()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[one.fileno() for one in held],
        )
    for one in held:
        one.close()
    ready = settings.data_dir / "ready.json"
    deadline = time.monotonic() + START_TIMEOUT
    while not (ready.exists() and _read_pid(settings.data_dir) == process.pid):
        if process.poll() is not None:
            raise StartError(log.read_bytes()[began:].decode(errors="replace").strip())
        if time.monotonic() > deadline:
            process.terminate()
            process.wait()
            raise StartError(
                f"Kedge did not get ready within {START_TIMEOUT:.0f} s.",
                fix=f"Read {settings.logs_dir}/control.log and data.log.",
            )
        time.sleep(0.02)
    process.returncode = 0  # It runs on, detached: no warning of that at our end.
    return 0


def down(data_dir: Path) -> int:
    """End the Kedge of that data directory and all its pods; the exit status.

    Raises:
        KedgeError: none runs there, or it does not end.
    """
    pid = _read_pid(data_dir)
    if pid is None or not _is_supervisor(pid):
        raise KedgeError(
            f"No Kedge runs on {data_dir}.",
            fix="Start one with `kedge up`, or name its folder with --data-dir.",
            reason="NotRunning",
        )
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while _is_supervisor(pid):
        if time.monotonic() > deadline:
            raise KedgeError(
                f"Kedge (pid {pid}) did not end within {STOP_TIMEOUT:.0f} s.",
                fix=f"kill -9 {pid}: its pods end with it and nothing stored is lost.",
                reason="NotStopped",
            )
        time.sleep(0.02)
    return 0


def prepare(settings: LocalSettings) -> tuple[Path, list[socket.socket]]:
    """Make the directories, hold the ports, write what the supervisor is to run: its path, and what
    holds the ports, which is the supervisor's to inherit."""
    running = _read_pid(settings.data_dir)
    if running is not None and _is_supervisor(running):
        raise StartError(
            f"Kedge already runs on {settings.data_dir} (pid {running}).",
            fix=f"Use it, end it with `kedge down --data-dir {settings.data_dir}`,"
            " or give another --data-dir.",
        )
    _make_directories(settings)
    settings, held = hold_ports(settings)
    return _write_plan(settings), held


def _make_directories(settings: LocalSettings) -> None:
    folders = (
        settings.data_dir, settings.store.parent, settings.tls_dir, settings.envoy_dir,
        settings.pods_dir, settings.logs_dir, settings.runtime_dir,
    )  # fmt: skip
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = settings.runtime_dir.stat()
        if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
            raise StartError(
                f"{settings.runtime_dir} belongs to somebody else or is open to others.",
                fix="Remove it, or set TMPDIR to a folder of your own.",
            )
    except OSError as error:
        raise StartError(
            f"The data directory {settings.data_dir} cannot be used: {error}.",
            fix="Give a folder that you may write to with --data-dir.",
        ) from error


def _write_plan(settings: LocalSettings) -> Path:
    from kedge.cluster.local.node.cgroups import Cgroups
    from kedge.gateway.bootstrap import envoy_argv

    groups = Cgroups.find(settings.data_dir)
    logs = settings.logs_dir
    written = settings.runtime_dir / "settings.json"
    written.write_text(settings.to_json())
    python_env = {"PYTHONUNBUFFERED": "1", "KEDGE_HOME": str(settings.data_dir)}
    # The node agent forks nothing that speaks gRPC: its library need not prepare for that.
    python_env["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    parts = [
        supervisor.Part(
            name,
            [sys.executable, "-m", f"kedge.modes.{name}", str(written)],
            python_env,
            f"{logs}/{name}.log",
        )
        for name in ("control", "data")
    ]
    parts += [
        supervisor.Part(
            "envoy", envoy_argv(settings), {}, f"{logs}/envoy.log",
            dies_with_parent=True, awaited=False,
        ),
    ]  # fmt: skip
    plan = supervisor.Plan(
        data_dir=str(settings.data_dir),
        notify_socket=str(settings.runtime_dir / "notify.sock"),
        parts=parts,
        announcement={
            "api_url": settings.api_url,
            "gateway_url": settings.url,
            "metrics_url": settings.metrics_url,
        },
        lines=_lines(settings),
        scratch_dir=str(settings.runtime_dir),
        control_groups=sorted({str(path) for path in (groups.memory, groups.cpu) if path}),
    )
    path = settings.runtime_dir / "plan.json"
    path.write_text(plan.to_json())
    return path


def _lines(settings: LocalSettings) -> list[str]:
    kubeconfig = str(settings.kubeconfig)
    return [
        "Kedge is ready after {seconds} s.",
        f"  predictions  {settings.url}/serving/NAMESPACE/NAME/",
        f"  kubectl      export KUBECONFIG={kubeconfig}",
        f"  stop         {'Ctrl-C, or ' if sys.stdout.isatty() else ''}kedge down"
        f" --data-dir {settings.data_dir}",
    ]


def _read_pid(data_dir: Path) -> int | None:
    try:
        return int((data_dir / "kedge.pid").read_text())
    except (OSError, ValueError):
        return None


def _is_supervisor(pid: int) -> bool:
    try:
        return b"kedge.modes.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        # No /proc (macOS): the process at that number is all that can be asked.
        if os.path.isdir("/proc/self"):
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
