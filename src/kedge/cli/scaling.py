"""`kedge get scaling`: how services scale now, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cli import output

if TYPE_CHECKING:
    from kedge.client.control import ControlClient
    from kedge.client.scaling import Scaling

HEADER = ["NAME", "DEPLOYMENT", "READY", "WANTED", "LOAD", "TARGET", "ZERO"]


async def show(
    client: ControlClient, names: list[str], namespace: str | None, everywhere: bool, form: str
) -> None:
    """Blocks of lines for services that are named, a table for all."""
    from kedge.client.scaling import gather

    found: list[Scaling] = []
    wrong: list[str] = []
    for name in names or [""]:
        more, wrong = await gather(client, name, namespace, everywhere=everywhere)
        found += more
    if form in ("json", "yaml"):
        _dump([one.raw for one in found], form)
        return
    for problem in wrong:
        output.warn(problem)
    if names:
        output.say("\n\n".join(text_of(one) for one in found))
    elif found:
        header, rows = table_of(found, namespaces=everywhere, wide=form == "wide")
        output.table(header, rows)
    else:
        output.note("Nothing scales here.")


def text_of(scaling: Scaling) -> str:
    """One Deployment's scaling, line by line."""
    head = (
        f"{scaling.deployment}: {scaling.ready} of {scaling.replicas} pods ready,"
        f" scaled by {scaling.scaler}"
    )
    lines = [
        ("load", scaling.load),
        ("target", scaling.target),
        ("decision", scaling.decision),
        ("bounds", scaling.bounds),
        ("at zero", scaling.zero),
        *(("problem", problem) for problem in scaling.problems),
    ]
    return "\n".join([head, *(f"  {name:<9} {text}" for name, text in lines if text)])


def table_of(
    found: list[Scaling], *, namespaces: bool, wide: bool
) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    header = [*(["NAMESPACE"] if namespaces else []), *HEADER, *(["WHY"] if wide else [])]
    rows = []
    for one in found:
        row = [one.namespace] if namespaces else []
        row += [one.service, one.deployment, f"{one.ready}/{one.replicas}", one.wanted]
        row += [one.load or f"({one.scaler})", one.target, one.zero]
        rows.append([*row, one.decision] if wide else row)
    return header, rows


def _dump(found: list[dict[str, object]], form: str) -> None:
    if form == "json":
        output.code(output.to_json(found), "json")
        return
    from kedge.client.manifests import dump

    output.code(dump(found), "yaml")
