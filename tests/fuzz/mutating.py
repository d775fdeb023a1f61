"""Inputs that are almost right: seeds, changed at random, for as long as the environment says.

`KEDGE_TEST_FUZZ_SECONDS=60 pytest tests/fuzz` gives each parser a minute; without it they get a
third of a second. A failure names the seed (`KEDGE_TEST_FUZZ_SEED`) and shows the bytes.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence

SECONDS = float(os.environ.get("KEDGE_TEST_FUZZ_SECONDS", "0.3"))
SEED = int(os.environ.get("KEDGE_TEST_FUZZ_SEED", str(random.randrange(2**32))))
_ROUND = 64

_NUMBERS = [b"0", b"-1", b"1e400", b"1.5", b"9" * 25, b"4294967296", b"-9223372036854775809"]
_JSON = [b"null", b"true", b"[]", b"{}", b'""', b"[[]]", b'"\\ud800"', b'"\\u0000"', b"[" * 40]
_BYTES = [b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xc3\x28", b"\r\n", b" "]


def mutations(seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Seeds, and children of seeds and of their children, until the time is over."""
    chance = random.Random(SEED)
    known = [*_NUMBERS, *_JSON, *_BYTES, *tokens]
    pool = list(seeds)
    end = time.monotonic() + SECONDS
    yield from seeds
    while time.monotonic() < end:
        for _ in range(_ROUND):
            raw = bytearray(chance.choice(pool))
            for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
                _change(raw, chance, known, pool)
            child = bytes(raw)
            yield child
        if len(pool) < 4 * len(seeds) + 64:
            pool.append(child)
        else:
            pool[chance.randrange(len(seeds), len(pool))] = child


def _change(
    raw: bytearray, chance: random.Random, known: Sequence[bytes], pool: Sequence[bytes]
) -> None:
    start = chance.randrange(len(raw) + 1)
    stop = min(len(raw), start + int(chance.expovariate(0.2)))
    match chance.randrange(7):
        case 0:
            del raw[start:stop]
        case 1:
            raw[start:start] = chance.choice(known)
        case 2:
            raw[start:stop] = chance.choice(known)
        case 3 if raw:
            raw[min(start, len(raw) - 1)] ^= 1 << chance.randrange(8)
        case 4:
            raw[start:start] = raw[start:stop] * chance.choice((1, 2, 50))
        case 5:
            other = chance.choice(pool)
            cut = chance.randrange(len(other) + 1)
            raw[start:] = other[cut:]
        case 6:
            del raw[start:]
    del raw[20_000:]
