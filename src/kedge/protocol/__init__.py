"""What goes over the wire to a model: types and codecs, no I/O.

Here live the V1 and Open Inference (V2) formats over JSON, binary tensors and gRPC, the request and
response types that every transport shares, and the errors an inference client can be told.

Sockets, models and frameworks do not live here: `kedge.server` moves the bytes and holds the
models. It may import `kedge.lib`, and NumPy, msgspec, orjson and protobuf.
"""
