"""The token of the one user, and the kubeconfig that carries it."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

import yaml

_NAME = "kedge"
_TOKEN_BYTES = 32


def ensure_token(path: Path) -> str:
    """The token in the file; made when there is none."""
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        _write_private(path, token)
    return token


def write_kubeconfig(path: Path, *, server: str, ca: Path, token: str) -> None:
    """A kubeconfig for `server`, with everything inside, readable by the user alone."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": _NAME,
                "cluster": {"server": server, "certificate-authority-data": authority},
            }
        ],
        "users": [{"name": _NAME, "user": {"token": token}}],
        "contexts": [
            {
                "name": _NAME,
                "context": {"cluster": _NAME, "user": _NAME, "namespace": "default"},
            }
        ],
        "current-context": _NAME,
        "preferences": {},
    }
    _write_private(path, yaml.safe_dump(config, sort_keys=False))


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
