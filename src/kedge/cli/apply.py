"""`kedge apply`: create or change what manifests describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kedge.cli import output
from kedge.cli.exits import FAILED
from kedge.cli.options import Context, Kubeconfig, Namespace, Timeout, with_client

if TYPE_CHECKING:
    from kedge.client.control import ControlClient
    from kedge.client.manifests import Manifest
    from kedge.lib.errors import KedgeError


def apply(
    files: Annotated[
        list[str],
        typer.Option(
            "--filename",
            "-f",
            metavar="FILE|DIR|-",
            help="YAML or JSON: a file, a folder's files, or standard input; may be repeated.",
        ),
    ],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every InferenceService is Ready.")
    ] = False,
    timeout: Timeout = 120.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Have the API check everything and store nothing.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Create or change what manifests describe (server-side apply).

    With --wait it comes back when the services answer, or as soon as one cannot become Ready.
    """
    from kedge.client.manifests import read_manifests

    manifests = read_manifests(files)

    async def work(client: ControlClient) -> int:
        services, failed = [], False
        for manifest in manifests:
            applied = await _apply_one(client, manifest, namespace, dry_run=dry_run)
            failed = failed or applied is None
            if applied is not None and applied["kind"] == "InferenceService":
                services.append(applied["metadata"])
        for metadata in services if wait and not dry_run else []:
            await wait_for(client, metadata["name"], metadata["namespace"], timeout)
        return FAILED if failed else 0

    raise typer.Exit(with_client(kubeconfig, context, work))


async def _apply_one(
    client: ControlClient, manifest: Manifest, namespace: str | None, *, dry_run: bool
) -> dict[str, Any] | None:
    """The stored object; None when the API refused it, which is told."""
    from kedge.cli.main import describe
    from kedge.client.errors import ManifestError
    from kedge.cluster.errors import ApiError, NotFound, Unauthorized

    obj = manifest.object
    metadata = obj.get("metadata") or {}
    try:
        kind = await client.resolve(obj, manifest.where)
        if kind.namespaced and not metadata.get("namespace"):
            metadata = {**metadata, "namespace": client.namespace_of(kind, namespace)}
            obj = {**obj, "metadata": metadata}
        try:
            before = await client.get(kind, str(metadata.get("name")), metadata.get("namespace"))
        except NotFound:
            before = {}
        _, stored = await client.apply(obj, where=manifest.where, dry_run=dry_run)
    except Unauthorized:
        raise
    except (ApiError, ManifestError) as error:
        output.fail(_placed(error, manifest.where, describe))
        return None
    done = "created"
    if before:
        done = "unchanged" if _written(before) == _written(stored) else "configured"
    dry = " (dry run)" if dry_run else ""
    output.say(f"{str(kind).lower()}/{stored['metadata']['name']} {done}{dry}")
    return {**stored, "kind": kind.kind}


def _written(obj: dict[str, Any]) -> dict[str, Any]:
    """What people write of an object: not its status, nor what the API counts and notes."""
    counted = ("resourceVersion", "managedFields", "generation")
    metadata = {key: value for key, value in obj["metadata"].items() if key not in counted}
    return {**{key: obj[key] for key in obj if key != "status"}, "metadata": metadata}


def _placed(error: KedgeError, where: str, describe: Any) -> str:
    told = str(describe(error))
    return told if where in told else f"{where}: {told}"


async def wait_for(client: ControlClient, name: str, namespace: str, timeout: float) -> None:
    """Wait until a service is Ready, telling where it is."""
    from kedge.client.inference import Target

    with output.progress(f"{name}: waiting") as tell:
        ready = await client.wait_ready(
            name, namespace, timeout=timeout, progress=lambda now, _: tell(f"{name}: {now.brief}")
        )
    output.say(f"{name} is Ready: {Target.of(ready).url}")
