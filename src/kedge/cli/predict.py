"""`kedge predict`: send rows to a service and print its answer."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kedge.cli import output
from kedge.cli.options import Context, Kubeconfig, Namespace, ServiceName, with_client

if TYPE_CHECKING:
    from kedge.client.control import ControlClient


class Protocol(StrEnum):
    V1 = "v1"
    V2 = "v2"
    GRPC = "grpc"


def predict(
    name: ServiceName,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            metavar="@FILE|JSON|-",
            help="Rows such as [[6.8, 2.8, 4.8, 1.4]], or a whole V1 or V2 request.",
        ),
    ],
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            metavar="v1|v2|grpc", help="Else v1, or v2 for a V2 request.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="The model's name, where it is not the service's.")
    ] = "",
    gateway: Annotated[
        str,
        typer.Option(help="Dial this instead of the URL's host.", metavar="HOST:PORT"),
    ] = "",
    timeout: Annotated[float, typer.Option(help="Longest wait for the answer, in seconds.")] = 60.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Send rows, or a whole request, to a service and print its answer as JSON.

    The same rows go over every protocol: for V2 and gRPC they become tensors by the model's own
    metadata.
    """
    body = read_data(data)

    async def work(client: ControlClient) -> Any:
        from kedge.api.scheme import INFERENCE_SERVICE
        from kedge.client.inference import InferenceClient, Target
        from kedge.client.payloads import is_v2

        service = await client.get(INFERENCE_SERVICE, name, namespace)
        chosen = protocol or (Protocol.V2 if is_v2(body) else Protocol.V1)
        target = Target.of(service, gateway)
        async with InferenceClient(target, timeout=timeout) as inference:
            return await inference.predict(body, chosen, model=model)

    output.code(output.to_json(with_client(kubeconfig, context, work)), "json")


def read_data(data: str) -> Any:
    """The JSON that `-d` means: text, `@file`, or `-` for standard input."""
    import json

    source, text = "--data", data
    if data == "-":
        source, text = "standard input", sys.stdin.read()
    elif data.startswith("@"):
        source = data[1:]
        try:
            text = Path(source).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{source} cannot be read: {error}.") from error
    try:
        return json.loads(text)
    except ValueError as error:
        hint = " Write @FILE to send a file." if Path(text[:255]).suffix == ".json" else ""
        raise typer.BadParameter(f"{source} is not JSON: {error}.{hint}") from error
