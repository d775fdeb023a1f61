"""V1 answers as KServe's batcher shapes them, for clients written against it.

Every answer is 200 and says in `message` what went wrong; `batchId` is shared by the requests that
were computed together. Off unless `--batcher_response` asks for it: who looks at status codes is
better served without.
"""

from __future__ import annotations

import uuid
from collections.abc import Coroutine
from typing import Any

import orjson

from kedge.server.batching import Job
from kedge.server.dataplane import DataPlane
from kedge.server.http.heads import Headers, Target
from kedge.server.http.inference import Inference
from kedge.server.http.reply import JSON, Reply, named
from kedge.server.limits import Limits
from kedge.server.request_id import NAME, chosen
from kedge.server.side import SIDE_BYTES

_TEXT = b"text/plain; charset=utf-8"
_UNEQUAL = "size of prediction is not equal to the size of instances"


class ShapedInference(Inference):
    """Shapes what the parent answers to V1 predictions."""

    def __init__(self, dataplane: DataPlane, limits: Limits) -> None:
        super().__init__(dataplane, limits)
        self._run = uuid.uuid4()

    def answer(
        self,
        target: Target,
        headers: Headers,
        body: bytes | list[bytes],
        request_id: str = "",
    ) -> Reply | Job | Coroutine[Any, Any, Reply]:
        if target.protocol != "v1":
            return super().answer(target, headers, body, request_id)
        compressed = any(name == b"content-encoding" for name, _ in headers)
        if isinstance(body, bytes) and len(body) <= SIDE_BYTES and not compressed:
            refusal = _refusal(body)
            if refusal:
                known = request_id or chosen(dict(headers).get(NAME, b""))
                return named(Reply(400, [refusal], _TEXT), known)
        outcome = super().answer(target, headers, body, request_id)
        if isinstance(outcome, Job):
            encode = outcome.encode
            assert encode is not None
            outcome.encode = lambda job: self._shaped_soon(encode(job), job)
            return outcome
        return self._shaped_soon(outcome, None)

    def _shaped_soon(
        self, outcome: Reply | Coroutine[Any, Any, Reply], job: Job | None
    ) -> Reply | Coroutine[Any, Any, Reply]:
        if isinstance(outcome, Reply):
            return self._shaped(outcome, job)
        return self._shaped_later(outcome, job)

    async def _shaped_later(self, outcome: Coroutine[Any, Any, Reply], job: Job | None) -> Reply:
        return self._shaped(await outcome, job)

    def _shaped(self, reply: Reply, job: Job | None) -> Reply:
        body = b"".join(reply.body)
        if reply.status != 200:
            return _reply(reply, body.decode("utf-8", "replace"), "", None)
        batch = str(uuid.uuid5(self._run, repr(job.began)) if job else uuid.uuid4())
        try:
            predictions = orjson.loads(body)["predictions"]
        except (orjson.JSONDecodeError, LookupError, TypeError) as error:
            return _reply(reply, f"the answer has no predictions: {error}", batch, None)
        if job is not None and (not isinstance(predictions, list) or len(predictions) != job.count):
            return _reply(reply, _UNEQUAL, batch, None)
        return _reply(reply, "", batch, predictions)


def _refusal(body: bytes) -> bytes:
    """What the batcher itself refuses, in its words."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return b"can't Unmarshal body"
    instances = asked.get("instances") if isinstance(asked, dict) else None
    return b"" if isinstance(instances, list) and instances else b"no instances in the request"


def _reply(reply: Reply, message: str, batch: str, predictions: Any) -> Reply:
    body = orjson.dumps({"message": message, "batchId": batch, "predictions": predictions})
    return Reply(200, [body], JSON, reply.headers)
