"""Open Inference (V2): JSON with binary tensors in `rest`, protocol buffers in `grpc`.

`inference.proto` is the source of the messages; `messages` loads them into a descriptor pool of
their own, because other packages register the same names in protobuf's default pool and a process
must be able to hold both.
"""
