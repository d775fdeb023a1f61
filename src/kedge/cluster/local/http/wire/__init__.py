"""Kubernetes' protobuf encoding, read only: newer Go clients send core kinds in nothing else.

`messages.json` says which field has which number; `generate` makes it from Kubernetes' Go types.
Answers are always JSON, which those clients accept too.
"""

from kedge.cluster.local.http.wire.decoding import MAGIC, decode

__all__ = ["MAGIC", "decode"]
