"""Options that many verbs share, and what every verb does first: find the API and connect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kedge.cli import output

if TYPE_CHECKING:
    from kedge.client.control import ControlClient
    from kedge.client.kubeconfig import Access

T = TypeVar("T")

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        help="Which API; else $KUBECONFIG, else the Kedge that runs here.",
        rich_help_panel="Connection",
        show_default=False,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        help="Which context of the kubeconfig.",
        rich_help_panel="Connection",
        show_default=False,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Where it is; else the kubeconfig's namespace.",
        rich_help_panel="Connection",
        show_default=False,
    ),
]
Timeout = Annotated[float, typer.Option(help="Longest wait, in seconds.", min=0)]


def complete_services(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of InferenceServices, for the shell; nothing when they cannot be had."""
    import asyncio

    from kedge.api.scheme import INFERENCE_SERVICE

    async def names() -> list[str]:
        async with asyncio.timeout(1.0):
            async with connect(ctx.params.get("kubeconfig")) as client:
                found = await client.list(INFERENCE_SERVICE, ctx.params.get("namespace"))
        return [item["metadata"]["name"] for item in found.items]

    try:
        return [name for name in asyncio.run(names()) if name.startswith(incomplete)]
    except Exception:  # a shell's completion must never show a traceback
        return []


ServiceName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="An InferenceService.", autocompletion=complete_services),
]


def find_access(kubeconfig: Path | None, context: str | None = None) -> Access:
    from kedge.client.kubeconfig import discover

    return discover(kubeconfig, context)


@asynccontextmanager
async def connect(
    kubeconfig: Path | None = None, context: str | None = None
) -> AsyncIterator[ControlClient]:
    """A connected client whose warnings go to standard error."""
    from kedge.client.control import ControlClient

    async with ControlClient(find_access(kubeconfig, context), warn=output.warn) as client:
        yield client


def with_client(
    kubeconfig: Path | None,
    context: str | None,
    work: Callable[[ControlClient], Coroutine[Any, Any, T]],
) -> T:
    """The result of `work`, given a connected client."""
    import asyncio

    async def connected() -> T:
        async with connect(kubeconfig, context) as client:
            return await work(client)

    return asyncio.run(connected())
