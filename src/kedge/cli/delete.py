"""`kedge delete`: delete services, or whatever manifests name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli import output
from kedge.cli.exits import NOT_FOUND
from kedge.cli.get import parse_what
from kedge.cli.options import (
    Context,
    Kubeconfig,
    Namespace,
    Timeout,
    complete_services,
    with_client,
)

if TYPE_CHECKING:
    from kedge.api.scheme import Kind
    from kedge.client.control import ControlClient

Named = tuple["Kind", str, str | None]


def delete(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND] [NAME]...",
            help="InferenceServices when no kind is named.",
            autocompletion=complete_services,
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--filename",
            "-f",
            metavar="FILE|DIR|-",
            help="What manifests name.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Come back when it is gone.")] = True,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there is no error.")
    ] = False,
    timeout: Timeout = 60.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Delete InferenceServices, resources of another kind, or what manifests name."""
    kind, names = parse_what(what or [])
    if not names and not files:
        raise typer.BadParameter("name what to delete, or give --filename.")

    async def work(client: ControlClient) -> int:
        named: list[Named] = [(kind, name, namespace) for name in names]
        named += await _in_files(client, files or [], namespace)
        missing = False
        for one in named:
            missing = not await _delete(client, one, ignore_not_found) or missing
        for one in named if wait else []:
            await _until_gone(client, one, timeout)
        return NOT_FOUND if missing else 0

    raise typer.Exit(with_client(kubeconfig, context, work))


async def _in_files(client: ControlClient, files: list[str], namespace: str | None) -> list[Named]:
    from kedge.client.manifests import read_manifests

    named: list[Named] = []
    for manifest in read_manifests(files) if files else []:
        kind = await client.resolve(manifest.object, manifest.where)
        metadata = manifest.object.get("metadata") or {}
        named.append((kind, str(metadata.get("name")), metadata.get("namespace") or namespace))
    return named


async def _delete(client: ControlClient, one: Named, ignore_not_found: bool) -> bool:
    """Whether it was there, or need not have been."""
    from kedge.cluster.errors import NotFound

    kind, name, namespace = one
    try:
        await client.delete(kind, name, namespace)
    except NotFound as error:
        if not ignore_not_found:
            output.fail(str(error))
        return ignore_not_found
    output.say(f"{kind}/{name} deleted")
    return True


async def _until_gone(client: ControlClient, one: Named, timeout: float) -> None:
    import asyncio
    from contextlib import aclosing

    from kedge.client.errors import TimedOut

    kind, name, namespace = one
    try:
        async with asyncio.timeout(timeout), aclosing(client.follow(kind, name, namespace)) as seen:
            async for obj in seen:
                if obj is None:
                    return
    except TimeoutError as error:
        raise TimedOut(
            f"{kind}/{name} is still there after {timeout:g} s.",
            fix=f"See which finalizers hold it: `kedge get {kind} {name} -o yaml`.",
        ) from error
