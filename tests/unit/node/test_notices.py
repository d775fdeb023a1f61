"""Notices that containers send when they are ready."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

from kedge.cluster.local.node.notices import Notices


async def test_a_notice_reaches_who_expects_it(tmp_path: Path) -> None:
    notices = Notices(tmp_path)
    notices.open()
    try:
        notice = notices.expect("uid.c")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            for data in (b"rubbish", b"[]", json.dumps({"name": "uid.other"}).encode()):
                sender.sendto(data, str(notices.path))
            told = {"name": "uid.c", "warm": True, "moments": {"process": 1.5}}
            sender.sendto(json.dumps(told).encode(), str(notices.path))
        async with asyncio.timeout(5):
            await notice.came.wait()
        assert notice.warm
        assert notice.moments == {"process": 1.5}
    finally:
        notices.close()
    assert not notices.path.exists()
