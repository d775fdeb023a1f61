"""Kedge's server around a model that answers the array it is asked with."""

from __future__ import annotations

import sys

import uvloop

from kedge.server import InferRequest, InferResponse, Model, ModelServer, Tensor


class Identity(Model):
    def predict(self, payload: InferRequest, headers: dict[str, str]) -> InferResponse:
        array = payload.inputs[0].array
        return InferResponse(self.name, [Tensor.from_array("output-0", array)], payload.id)


async def main() -> None:
    http_port, grpc_port = map(int, sys.argv[1:3])
    await ModelServer(http_port=http_port, grpc_port=grpc_port).serve([Identity("identity")])


if __name__ == "__main__":
    uvloop.run(main())
