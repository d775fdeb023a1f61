"""Kedge's server around a model that answers the array it is asked with."""

from __future__ import annotations

import sys

import uvloop

from kedge.server import InferRequest, InferResponse, Model, ModelServer, Tensor
from kedge.server.limits import MIB, Limits


class Identity(Model):
    def predict(self, payload: InferRequest, headers: dict[str, str]) -> InferResponse:
        array = payload.inputs[0].array
        return InferResponse(self.name, [Tensor.from_array("output-0", array)], payload.id)


async def main() -> None:
    http_port, grpc_port = map(int, sys.argv[1:3])
    limits = Limits(json_bytes=64 * MIB)  # A tensor of 16 MB is 32 MB as JSON.
    server = ModelServer(http_port=http_port, grpc_port=grpc_port, limits=limits)
    await server.serve([Identity("identity")])


if __name__ == "__main__":
    uvloop.run(main())
