"""gRPC on the server's own event loop.

`frames` and `head` are HTTP/2's bytes, without I/O; `connection` is one client's connection with
its streams and windows; `service` maps the Open Inference methods to the data plane. A gRPC library
would bring threads and an event loop of its own, and costs several times the prediction.
"""
