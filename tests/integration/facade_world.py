"""Starts and ends a façade's process, and runs kubectl against it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("facade_process.py")
SECONDS = 60


class RunningFacade:
    """A façade in a process of its own.

    Attributes:
        folder: where its store, its kubeconfig and its pods' logs are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def socket(self) -> Path:
        return self.folder / "api.sock"

    @property
    def environment(self) -> dict[str, str]:
        """For clients: our kubeconfig, and caches of their own."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}

    def start(self) -> None:
        argv = [sys.executable, str(PROGRAM), str(self.folder)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> None:
        """kill -9: whatever was acknowledged must survive it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def kubectl(
        self, *arguments: str, stdin: str | None = None, fails: bool = False, **environment: str
    ) -> str:
        """What kubectl prints; of a call that must fail, what it complains."""
        ran = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={**self.environment, **environment},
            check=False,
        )
        said = ran.stdout + ran.stderr
        assert (ran.returncode != 0) == fails, f"kubectl {' '.join(arguments)}: {said}"
        return said if fails else ran.stdout + ran.stderr
