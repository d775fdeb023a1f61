"""`kedge status`: is a Kedge running here, where does it answer, how are its services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kedge.cli import output
from kedge.cli.exits import FAILED, UNREACHABLE
from kedge.cli.up import DataDir

if TYPE_CHECKING:
    from kedge.client.control import ControlClient

ANSWER_SECONDS = 10.0
"""An API that takes longer does not answer."""


def status(
    data_dir: DataDir = None,
    form: Annotated[
        str, typer.Option("--output", "-o", help="`json`, or nothing for text.", metavar="FORM")
    ] = "",
) -> None:
    """Tell whether a Kedge runs on this machine, where it answers, and how its services are.

    Exit code 0 when it runs and answers, 1 when a part of it does not, 4 when none runs.
    """
    from kedge.client.kubeconfig import running_pid
    from kedge.settings.local import LocalSettings

    folder = LocalSettings.from_environment(data_dir=data_dir).data_dir
    pid = running_pid(folder)
    if pid is None:
        output.fail(f"No Kedge is running on {folder}. Fix: Start one with `kedge up --detach`.")
        raise typer.Exit(UNREACHABLE)
    found = look(folder, pid)
    if form == "json":
        output.say(output.to_json(found))
    else:
        _show(found)
    raise typer.Exit(0 if found["ready"] else FAILED)


def look(folder: Path, pid: int) -> dict[str, Any]:
    """What can be said of the Kedge with that pid."""
    try:
        ready = json.loads((folder / "ready.json").read_text())
    except (OSError, ValueError):
        ready = {}
    gateway, api = ready.get("gateway_url", ""), ready.get("api_url", "")
    faults = ready.get("faults", {})
    # Whoever else has the API's port is not asked.
    services = None if "control" in faults else _services(folder)
    gateway_answers = bool(gateway) and _connects(gateway)
    return {
        "pid": pid,
        "data_dir": str(folder),
        "kubeconfig": str(folder / "kubeconfig"),
        "logs": str(folder / "logs"),
        "gateway": {"url": gateway, "answers": gateway_answers},
        "api": {"url": api, "answers": services is not None},
        "services": services or {},
        "faults": faults,
        "ready": bool(ready) and gateway_answers and services is not None and not faults,
    }


def _services(folder: Path) -> dict[str, Any] | None:
    """How many services there are and are Ready, and the nodes; None when the API is silent."""
    import asyncio

    from kedge.api.scheme import INFERENCE_SERVICE, NODE
    from kedge.client.control import ControlClient
    from kedge.client.kubeconfig import load
    from kedge.client.waiting import condition
    from kedge.lib.errors import KedgeError

    async def ask(client: ControlClient) -> dict[str, Any]:
        found = await client.list(INFERENCE_SERVICE, everywhere=True)
        nodes = await client.list(NODE)
        ready = [item for item in found.items if condition(item).get("status") == "True"]
        return {
            "total": len(found.items),
            "ready": len(ready),
            "templates": [template for node in nodes.items for template in _templates(node)],
            "notes": [note for node in nodes.items for note in _notes(node)],
        }

    async def connected() -> dict[str, Any]:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            ControlClient(load([folder / "kubeconfig"], local=True)) as client,
        ):
            return await ask(client)

    try:
        return asyncio.run(connected())
    except (KedgeError, TimeoutError):
        return None


def _templates(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The warm templates that a node's pods are forked from."""
    annotations = node["metadata"].get("annotations") or {}
    try:
        return list(json.loads(annotations.get("serving.kedge.dev/templates") or "[]"))
    except ValueError:
        return []


def _template_line(template: dict[str, Any]) -> str:
    if template.get("failure"):
        return f"{template['runtime']}: none, pods start by exec ({template['failure']})"
    forks = template["forks"]
    return (
        f"{template['runtime']}: {template['memory'] / 1e6:.0f} MB, pid {template['pid']},"
        f" {forks} pod{'' if forks == 1 else 's'} forked"
    )


def _notes(node: dict[str, Any]) -> list[str]:
    """What this machine cannot do, as the node agent tells it."""
    conditions = (node.get("status") or {}).get("conditions") or []
    wanted = {"Ready": "True"}
    return [
        f"node {node['metadata']['name']}: {entry.get('message') or entry['type']}"
        for entry in conditions
        if entry.get("status") != wanted.get(entry["type"], "False")
    ]


def _connects(url: str) -> bool:
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1.0):
            return True
    except OSError:
        return False


def _show(found: dict[str, Any]) -> None:
    services = found["services"]
    state = "is running" if found["ready"] else "is running, but does not answer everywhere"
    output.say(f"Kedge on {found['data_dir']} {state} (pid {found['pid']}).")
    for label, part in (("predictions", "gateway"), ("API", "api")):
        answers = "answers" if found[part]["answers"] else "does not answer"
        output.say(f"  {label:12} {found[part]['url'] or 'not ready yet'} {answers}")
    for part, fault in sorted(found["faults"].items()):
        for line in fault.splitlines():
            output.say(f"  {'fault':12} {part}: {line}")
    output.say(f"  {'kubeconfig':12} {found['kubeconfig']}")
    output.say(f"  {'logs':12} {found['logs']}")
    if services:
        output.say(f"  {'services':12} {services['ready']} of {services['total']} Ready")
        for template in services["templates"]:
            output.say(f"  {'template':12} {_template_line(template)}")
        for line in services["notes"]:
            output.say(f"  {'note':12} {line}")
