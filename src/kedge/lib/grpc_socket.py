"""A gRPC server on a unix socket, that may follow another one on the same path.

gRPC removes the file of a listener that has ended some time after `stop` has returned, whosever
file it is by then: the next server's, which nobody would find any more. So each listens under a
name of its own, that is then moved to where clients look: there is always a socket there, and
what is removed later is only a name.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import grpc


async def serve_on_socket(server: grpc.aio.Server, socket: Path) -> None:
    """Serve on a unix socket until cancelled, instead of who served there before.

    Raises:
        OSError: nothing can be written in the socket's folder.
        RuntimeError: gRPC cannot listen there; the message says why.
    """
    own = socket.with_name(secrets.token_hex(4))
    server.add_insecure_port(f"unix:{own}")
    try:
        await server.start()
        own.replace(socket)
        await server.wait_for_termination()
    finally:
        await server.stop(None)
