"""`kedge top`: how much services are asked, and how they answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli import output
from kedge.cli.options import Context, Kubeconfig, Namespace, complete_services, with_client

if TYPE_CHECKING:
    from kedge.client.control import ControlClient
    from kedge.client.top import Usage

HEADER = ["NAME", "READY", "RATE", "5XX", "4XX", "P50", "P99", "REQUESTS"]


def top(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="An InferenceService; all when none is named.",
            autocompletion=complete_services,
            show_default=False,
        ),
    ] = "",
    since: Annotated[
        str, typer.Option(help="Over how long: 1m, 2h, up to 24h.", metavar="TIME")
    ] = "1m",
    form: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="`wide` for every component, or `json`.", metavar="FORM"
        ),
    ] = "",
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Tell how much services are asked, what share fails, and how long it takes.

    The busiest first. Time that a request waited for a pod is in its latency.
    """
    seconds = parse_since(since)
    wide = form == "wide"

    async def work(client: ControlClient) -> list[Usage]:
        from kedge.client.top import gather

        return await gather(
            client, name, namespace, everywhere=everywhere, seconds=seconds,
            components=wide or form == "json",
        )  # fmt: skip

    found = with_client(kubeconfig, context, work)
    if form == "json":
        from dataclasses import asdict

        output.code(output.to_json([asdict(one) for one in found]), "json")
    elif found:
        output.table(*table_of(found, namespaces=everywhere, components=wide))
    else:
        output.note("No service is there.")


def parse_since(text: str) -> float:
    """Seconds, 1 minute to 24 hours."""
    from kedge.lib.durations import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    if not 60 <= seconds <= 24 * 3600:
        raise typer.BadParameter("From 1m to 24h are kept.", param_hint="--since")
    return seconds


def table_of(
    found: list[Usage], *, namespaces: bool, components: bool
) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    header = list(HEADER)
    if components:
        header.insert(1, "COMPONENT")
    if namespaces:
        header.insert(0, "NAMESPACE")
    rows = []
    for one in found:
        row = [
            one.service,
            f"{one.ready}/{one.desired}",
            f"{_number(one.per_second)}/s",
            _share(one.failed_share),
            _share(one.refused_share),
            format_milliseconds(one.p50),
            format_milliseconds(one.p99),
            str(one.requests),
        ]
        if components:
            row.insert(1, one.component)
        rows.append([one.namespace, *row] if namespaces else row)
    return header, rows


def format_milliseconds(value: float | None) -> str:
    """For people: `0.42 ms`, `12 ms`, `1.3 s`; `-` when there is nothing."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.1f} s" if value < 10_000 else f"{value / 1000:.0f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{_significant(value)} ms"


def _significant(value: float) -> str:
    """Two digits of a number below ten."""
    digits = 2 if value <= 0 else max(0, 1 - math.floor(math.log10(value)))
    return f"{value:.{min(digits, 2)}f}"


def _share(share: float) -> str:
    if not share:
        return "0"
    return f"{100 * share:.2g} %" if share >= 0.0001 else "<0.01 %"


def _number(value: float) -> str:
    if not value:
        return "0"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
