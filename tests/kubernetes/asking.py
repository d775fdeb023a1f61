"""A client in a pod: reads what to ask as JSON from standard input, prints what came back as JSON.

It runs with the packages of Kedge's smallest image, and imports nothing of Kedge.
"""

from __future__ import annotations

import asyncio
import collections
import json
import ssl
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp


async def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Ask `rate` times a second for `seconds`, whether or not the last answer came; or once."""
    answers: collections.Counter[str] = collections.Counter()
    times: list[float] = []
    failures: list[str] = []

    secure = (
        ssl.create_default_context(cadata=wanted["authority"]) if "authority" in wanted else None
    )
    server = wanted["headers"]["Host"] if secure else None

    async def ask(session: aiohttp.ClientSession) -> None:
        begun = time.monotonic()
        at = time.time()
        try:
            async with session.post(
                wanted["url"], json=wanted["body"], headers=wanted["headers"],
                ssl=secure or True, server_hostname=server,
            ) as response:  # fmt: skip
                text = await response.text()
                if response.status == 200:
                    said = json.loads(text)
                    found = said.get("predictions") or said["outputs"][0]["data"]
                    answers[json.dumps(found)] += 1
                else:
                    answers[str(response.status)] += 1
                    failures.append(f"{at:.2f} {response.status} {text[:300]}")
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            answers[type(error).__name__] += 1
            failures.append(f"{at:.2f} {type(error).__name__} {error}")
        times.append(time.monotonic() - begun)

    timeout = aiohttp.ClientTimeout(total=wanted.get("timeout", 60))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        running = set()
        rate, end = wanted.get("rate", 0), time.monotonic() + wanted.get("seconds", 0)
        due = time.monotonic()
        while True:
            running.add(asyncio.ensure_future(ask(session)))
            if not rate or (due := due + 1 / rate) >= end:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*running)
    times.sort()
    return {
        "answers": answers,
        "failures": failures[:20],
        "requests": len(times),
        "p50": round(times[len(times) // 2], 4),
        "p99": round(times[int(len(times) * 0.99)], 4),
        "slowest": round(times[-1], 4),
        "certificate": await serial(wanted["url"], secure, server) if secure else None,
    }


async def serial(url: str, secure: ssl.SSLContext, server: str | None) -> str:
    """The number of the certificate that a new connection is shown."""
    place = urlsplit(url)
    _, writer = await asyncio.open_connection(
        place.hostname, place.port or 443, ssl=secure, server_hostname=server
    )
    shown = writer.get_extra_info("peercert")
    writer.close()
    return str(shown["serialNumber"])


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.stdin.read())))))
