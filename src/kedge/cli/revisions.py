"""`kedge get revisions`: the revisions of services, and what each gets."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from kedge.cli import output

if TYPE_CHECKING:
    from kedge.client.control import ControlClient
    from kedge.client.rollouts import Revision

HEADER = ["REVISION", "PERCENT", "TAG", "PODS", "STATE", "ROLE", "MODEL"]


async def show(
    client: ControlClient, names: list[str], namespace: str | None, everywhere: bool, form: str
) -> None:
    """A table of the revisions of the services that are named, or of all."""
    from kedge.api.scheme import INFERENCE_SERVICE
    from kedge.client.rollouts import revisions_of

    services = (
        [await client.get(INFERENCE_SERVICE, name, namespace) for name in names]
        if names
        else (await client.list(INFERENCE_SERVICE, namespace, everywhere=everywhere)).items
    )
    found: list[Revision] = []
    for service in services:
        found += await revisions_of(client, service, service["metadata"]["namespace"])
    if form in ("json", "yaml"):
        output.code(output.to_json([asdict(revision) for revision in found]), "json")
    elif found:
        output.table(HEADER, [row_of(revision) for revision in found])
    else:
        output.note("No revisions here: in Standard mode a component is one Deployment.")


def row_of(revision: Revision) -> list[str]:
    return [
        revision.name,
        f"{revision.percent} %" if revision.percent else "-",
        revision.tag or "-",
        f"{revision.ready}/{revision.replicas}",
        revision.state,
        ", ".join(revision.roles) or "-",
        revision.model or "-",
    ]
