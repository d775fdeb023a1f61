"""No write that was acknowledged is lost to a kill -9."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kedge.api.scheme import CONFIG_MAP
from kedge.cluster.local.store import Store

WRITER = """
import sys
from kedge.api.scheme import CONFIG_MAP
from kedge.cluster.local.store import Store
store = Store(sys.argv[1])
number = len(store.snapshot(CONFIG_MAP).records())
while True:
    name = f"a{number:06}"
    metadata = {"name": name, "namespace": "default", "uid": name}
    record = store.put(CONFIG_MAP, {"metadata": metadata, "data": {"x": "y" * 3000}}, None)
    print(name, record.version, flush=True)
    number += 1
    if number % 100 == 0:
        store._checkpoint()
"""


@pytest.mark.parametrize("_round", range(3))
def test_every_acknowledged_write_is_there(tmp_path: Path, _round: int) -> None:
    path = tmp_path / "kedge.db"
    acknowledged: list[str] = []
    for lines in (7, 150, 260):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(lines):
            acknowledged.append(writer.stdout.readline().strip())
        writer.kill()
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        writer.wait()
        writer.stdout.close()
        store = Store(path)
        found = [
            f"{record.name} {record.version}" for record in store.snapshot(CONFIG_MAP).records()
        ]
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) - len(acknowledged) <= 1, "at most the write whose answer was cut off"
        assert store.version == 1 + len(found)
        acknowledged = found
        store.close()
