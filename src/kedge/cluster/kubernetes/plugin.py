"""Tokens from a program that a kubeconfig names, as cloud providers' kubeconfigs do.

The program prints an `ExecCredential`. It is run when a token is first needed, and again shortly
before the one that it gave ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kedge.cluster.errors import Unauthorized

_SECONDS = 60.0
_EARLY = 60.0
"""Seconds before its end at which a token is asked for anew."""
_LASTING = 3600.0
"""Seconds for which a token counts that names no end."""


class PluginFailed(Unauthorized):
    """The program gave no token."""

    reason = "CredentialPluginFailed"


def token_of_plugin(kubeconfig: Path, plugin: Mapping[str, Any]) -> Callable[[], str | None]:
    """Gives the token of now.

    Args:
        kubeconfig: names the program; relative paths are from its folder.
        plugin: `users[].user.exec` of it.
    """
    ends, token = float("-inf"), ""

    def read() -> str | None:
        nonlocal ends, token
        if time.time() >= ends:
            status = _run(kubeconfig, plugin)
            token = str(status["token"])
            given = status.get("expirationTimestamp")
            ends = (
                datetime.fromisoformat(str(given)).timestamp() - _EARLY
                if given
                else time.time() + _LASTING
            )
        return token

    return read


def _run(kubeconfig: Path, plugin: Mapping[str, Any]) -> dict[str, Any]:
    command = str(plugin.get("command") or "")
    if "/" in command:
        command = str(kubeconfig.parent / command)
    asked = {
        "apiVersion": plugin.get("apiVersion") or "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    added = {str(one["name"]): str(one["value"]) for one in plugin.get("env") or ()}
    try:
        done = subprocess.run(
            [command, *map(str, plugin.get("args") or ())],
            env={**os.environ, **added, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        status: dict[str, Any] = json.loads(done.stdout)["status"]
        if not status.get("token"):
            raise KeyError("status.token")
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-500:]
        raise _failed(kubeconfig, command, f"exit status {error.returncode}: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        hint = f" {plugin['installHint']}" if plugin.get("installHint") else ""
        raise _failed(kubeconfig, command, f"{error}{hint}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _failed(kubeconfig, command, f"no ExecCredential with a token: {error}") from error
    return status


def _failed(kubeconfig: Path, command: str, why: str) -> PluginFailed:
    error = PluginFailed(f"{kubeconfig}: the program {command!r} gave no token: {why}.")
    error.fix = "Run it by hand, log in if it asks for that, or use a kubeconfig with a token."
    return error
