"""`kedge why`: why a service is as it is, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli import output
from kedge.cli.exits import FAILED
from kedge.cli.options import Context, Kubeconfig, Namespace, ServiceName, with_client

if TYPE_CHECKING:
    from kedge.client.control import ControlClient
    from kedge.client.findings import Finding
    from kedge.client.why import Explanation


def why(
    name: ServiceName,
    form: Annotated[
        str, typer.Option("--output", "-o", help="`json`, or nothing for text.", metavar="FORM")
    ] = "",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Tell why a service is not Ready: the chain down to the last log lines, and one fix.

    Exit code 0 when it is Ready, 1 when it is not.
    """

    async def work(client: ControlClient) -> Explanation:
        from kedge.client.why import explain, gather

        return explain(await gather(client, name, namespace))

    found = with_client(kubeconfig, context, work)
    if form == "json":
        output.code(output.to_json(found.to_json()), "json")
    elif output.is_rich():
        _draw(found)
    else:
        output.say(text_of(found))
    raise typer.Exit(0 if found.ready else FAILED)


MARKS = {"ok": "+", "waiting": "~", "failed": "!"}
"""What stands before a link: fine, on its way, broken."""


def text_of(found: Explanation) -> str:
    """The explanation as plain text."""
    lines = [found.summary, "", *_links(found.tree, "")]
    if found.events:
        lines += ["", "Warnings:", *(f"  {event}" for event in found.events)]
    if found.fix:
        lines += ["", f"Fix: {found.fix}"]
    return "\n".join(lines)


def _links(finding: Finding, indent: str) -> list[str]:
    told = f": {finding.told}" if finding.told else ""
    lines = [f"{indent}{MARKS[finding.state]} {finding.what}{told}"]
    lines += [f"{indent}    | {line}" for line in finding.lines]
    for below in finding.below:
        lines += _links(below, indent + "  ")
    return lines


def _draw(found: Explanation) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    styles = {"ok": "green", "waiting": "yellow", "failed": "bold red"}

    def label(finding: Finding) -> Text:
        text = Text.assemble((finding.what, styles[finding.state]))
        if finding.told:
            text.append(f"  {finding.told}")
        for line in finding.lines:
            text.append(f"\n│ {line}", "dim")
        return text

    def grow(tree: Tree, finding: Finding) -> None:
        for below in finding.below:
            grow(tree.add(label(below)), below)

    console = Console()
    console.print(Text(found.summary, "bold"))
    tree = Tree(label(found.tree))
    grow(tree, found.tree)
    console.print(tree)
    for event in found.events:
        console.print(Text.assemble(("Warning  ", "yellow"), event))
    if found.fix:
        console.print(Text.assemble(("Fix: ", "bold green"), found.fix))
