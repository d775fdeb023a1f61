"""What a server costs at the least: thirty lines of ASGI under uvicorn, without any checks.

Joins what came in while the model was busy when BATCH is set; echoes tensors when MODEL is not.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import orjson
import uvicorn

waiting: list[tuple[Any, asyncio.Future[Any]]] = []


def flush(predict: Any, join: Any) -> None:
    todo = waiting[:]
    waiting.clear()
    labels = predict(join([rows for rows, _ in todo])).tolist()
    for rows, future in todo:
        future.set_result(labels[: len(rows)])
        del labels[: len(rows)]


async def read(receive: Any) -> bytes:
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


async def reply(send: Any, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    kept = (b"content-type", b"inference-header-content-length")
    headers = [pair for pair in scope["headers"] if pair[0] in kept]
    await reply(send, await read(receive), headers)


def make_iris() -> Any:
    import joblib
    import numpy as np

    model = joblib.load(os.environ["MODEL"])
    batching = bool(os.environ.get("BATCH"))

    async def iris(scope: Any, receive: Any, send: Any) -> None:
        rows = np.array(orjson.loads(await read(receive))["inputs"][0]["data"])
        if batching:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Any] = loop.create_future()
            waiting.append((rows, future))
            if len(waiting) == 1:
                loop.call_soon(flush, model.predict, np.concatenate)
            labels = await future
        else:
            labels = model.predict(rows).tolist()
        output = {"name": "output-0", "datatype": "INT64", "shape": [len(labels)], "data": labels}
        body = orjson.dumps({"model_name": "iris", "outputs": [output]})
        await reply(send, body, [(b"content-type", b"application/json")])

    return iris


if __name__ == "__main__":
    app = make_iris() if "MODEL" in os.environ else echo
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, log_level="warning")
