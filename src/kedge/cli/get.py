"""`kedge get`: what is there, as a table or as it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kedge.cli import output
from kedge.cli.options import Context, Kubeconfig, Namespace, complete_services, with_client

if TYPE_CHECKING:
    from kedge.api.scheme import Kind
    from kedge.client.control import ControlClient

FORMS = ("", "wide", "yaml", "json", "name")


def get(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND] [NAME]...",
            help="A kind (pods, deploy, ...), names, or KIND/NAME; InferenceServices when no"
            " kind is named.",
            autocompletion=complete_services,
            show_default=False,
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, a line per change.")] = False,
    form: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FORM", help="wide, yaml, json or name."),
    ] = "",
    labels: Annotated[
        str, typer.Option("--selector", "-l", help="Only with these labels.", metavar="LABELS")
    ] = "",
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List InferenceServices, or resources of another kind.

    `scaling [NAME]...` tells how services scale now, and why; `revisions [NAME]...` which revisions
    there are and what share each gets.
    """
    if form not in FORMS:
        raise typer.BadParameter(f"`{form}` is none of {', '.join(FORMS[1:])}.", param_hint="-o")
    if what and what[0] == "scaling":
        _show_scaling(what[1:], namespace, everywhere, form, kubeconfig, context)
        return
    if what and what[0] == "revisions":
        _show_revisions(what[1:], namespace, everywhere, form, kubeconfig, context)
        return
    kind, names = parse_what(what or [])
    query = Query(kind, tuple(names), namespace, labels, everywhere, form)

    async def work(client: ControlClient) -> None:
        await (query.watch(client) if watch else query.show(client))

    with_client(kubeconfig, context, work)


def _show_scaling(
    names: list[str],
    namespace: str | None,
    everywhere: bool,
    form: str,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    from kedge.cli import scaling

    with_client(
        kubeconfig, context, lambda client: scaling.show(client, names, namespace, everywhere, form)
    )


def _show_revisions(
    names: list[str],
    namespace: str | None,
    everywhere: bool,
    form: str,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    from kedge.cli import revisions

    with_client(
        kubeconfig,
        context,
        lambda client: revisions.show(client, names, namespace, everywhere, form),
    )


def parse_what(words: list[str]) -> tuple[Kind, list[str]]:
    """The kind and the names that the words of a command line mean.

    A first word that is no kind is the name of an InferenceService, unless more words follow:
    then it was meant to be a kind.
    """
    from kedge.api.scheme import INFERENCE_SERVICE
    from kedge.client.kinds import find_kind, unknown_kind

    if not words:
        return INFERENCE_SERVICE, []
    first, slash, name = words[0].partition("/")
    kind = find_kind(first)
    if slash:
        if kind is None:
            raise typer.BadParameter(unknown_kind(first))
        return kind, [name, *(word.rpartition("/")[2] for word in words[1:])]
    if kind is not None:
        return kind, words[1:]
    return INFERENCE_SERVICE, words


class Query:
    """One `kedge get`: what to show and how."""

    def __init__(
        self,
        kind: Kind,
        names: tuple[str, ...],
        namespace: str | None,
        labels: str,
        everywhere: bool,
        form: str,
    ) -> None:
        from kedge.api.scheme import INFERENCE_SERVICE

        self.kind, self.names, self.namespace = kind, names, namespace
        self.labels, self.everywhere, self.form = labels, everywhere, form
        self._is_service = kind is INFERENCE_SERVICE

    async def show(self, client: ControlClient) -> None:
        if self.form in ("yaml", "json", "name"):
            self._dump(await self._objects(client))
            return
        header, rows = await self._table(client)
        if rows:
            output.table(header, rows)
        else:
            where = self.namespace or client.access.namespace
            inside = (
                f" in namespace {where}" if self.kind.namespaced and not self.everywhere else ""
            )
            output.note(f"No {self.kind.plural} found{inside}.")

    async def watch(self, client: ControlClient) -> None:
        """A line (or a document) now and per change, until interrupted."""
        from kedge.cluster.base import EventType

        printed = Lines()
        async for event in client.changes(
            self.kind, self.namespace, labels=self.labels, everywhere=self.everywhere
        ):
            if event.type is not EventType.BOOKMARK:
                await self._line(client, event.object, printed)

    async def _line(self, client: ControlClient, obj: dict[str, Any], printed: Lines) -> None:
        if self.names and obj["metadata"]["name"] not in self.names:
            return
        if self.form in ("yaml", "json", "name"):
            self._dump([obj])
            return
        printed.add(*await self._table_of(client, obj))

    async def _objects(self, client: ControlClient) -> list[dict[str, Any]]:
        if self.names:
            return [await client.get(self.kind, name, self.namespace) for name in self.names]
        found = await client.list(
            self.kind, self.namespace, labels=self.labels, everywhere=self.everywhere
        )
        return found.items

    async def _table(self, client: ControlClient) -> tuple[list[str], list[list[str]]]:
        from kedge.cli import rows

        if self._is_service:
            objects = await self._objects(client)
            return rows.of_services(objects, wide=self._wide, namespaces=self.everywhere)
        header: list[str] = []
        lines: list[list[str]] = []
        for name in self.names or ("",):
            table = await client.table(
                self.kind,
                self.namespace,
                name=name,
                labels=self.labels,
                everywhere=self.everywhere,
            )
            header, found = rows.of_table(table, wide=self._wide, namespaces=self.everywhere)
            lines += found
        return header, lines

    async def _table_of(
        self, client: ControlClient, obj: dict[str, Any]
    ) -> tuple[list[str], list[list[str]]]:
        from kedge.cli import rows
        from kedge.cluster.errors import NotFound

        if self._is_service:
            return rows.of_services([obj], wide=self._wide, namespaces=self.everywhere)
        metadata = obj["metadata"]
        try:
            table = await client.table(self.kind, metadata.get("namespace"), name=metadata["name"])
        except NotFound:  # deleted since
            return [], []
        return rows.of_table(table, wide=self._wide, namespaces=self.everywhere)

    @property
    def _wide(self) -> bool:
        return self.form == "wide"

    def _dump(self, objects: list[dict[str, Any]]) -> None:
        from kedge.client.manifests import dump

        if self.form == "name":
            for obj in objects:
                output.say(f"{self.kind!s}/{obj['metadata']['name']}")
            return
        shown = objects if self.names else [_as_list(objects)]
        if self.form == "yaml":
            output.code(dump(shown), "yaml")
        else:
            for obj in shown:
                output.code(output.to_json(obj), "json")


def _as_list(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": objects}


class Lines:
    """Rows printed as they come, in columns that only ever grow."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def add(self, header: list[str], rows: list[list[str]]) -> None:
        if rows and not self._widths:
            self._widths = [len(title) for title in header]
            self._grow(rows)
            self._print(header)
        self._grow(rows)
        for row in rows:
            self._print(row)

    def _grow(self, rows: list[list[str]]) -> None:
        for row in rows:
            self._widths = [max(w, len(c)) for w, c in zip(self._widths, row, strict=True)]

    def _print(self, row: list[str]) -> None:
        cells = (cell.ljust(width) for cell, width in zip(row, self._widths, strict=True))
        output.say("   ".join(cells).rstrip())
