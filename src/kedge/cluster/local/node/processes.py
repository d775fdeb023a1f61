"""What /proc tells of a pod's processes: their memory, and what they listen on."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kedge.lib.clock import SYSTEM_CLOCK, Clock

TERMINATION_LOG = "KEDGE_TERMINATION_LOG"
"""Environment variable that names the file of a container's last words, in the pod's folder."""
_TCP_LISTEN = 10
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket. `address` is None when it is every address."""

    port: int
    inode: str
    address: str | None = None


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{task}/children").read_text()
                found += map(int, children.split())
    return found


class PodProcesses:
    """The processes of pods, for who did not start them: found by their environment.

    Args:
        pods_dir: the folder of the pods' folders, which is in what every container is given.
    """

    def __init__(self, pods_dir: Path, *, clock: Clock = SYSTEM_CLOCK) -> None:
        mark = f"{TERMINATION_LOG}={pods_dir}/".encode()
        self._pattern = re.compile(rb"(?:^|\0)" + re.escape(mark) + rb"([^/\0]+)/")
        self._clock = clock
        self._looked = float("-inf")
        self._found: dict[str, list[int]] = {}

    def __call__(self, uid: str) -> list[int]:
        """Those of one pod, as of the last second."""
        now = self._clock.monotonic()
        if now - self._looked >= 1.0:
            self._looked, self._found = now, self._look()
        return self._found.get(uid, [])

    def _look(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                match = self._pattern.search(Path(f"/proc/{name}/environ").read_bytes())
                if match:
                    found.setdefault(match[1].decode(), []).append(int(name))
        return found


def resident(pids: Iterable[int]) -> int:
    """Bytes of memory that these processes hold, counting shared pages once for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return total


def listeners() -> list[Listener]:
    """Every listening TCP socket of the machine.

    Asked over netlink, which walks the listening sockets alone; /proc/net/tcp walks the table of
    all connections, 30 ms on a machine with much memory.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as asker:
            return [
                found
                for family in (socket.AF_INET, socket.AF_INET6)
                for found in _ask_listeners(asker, family)
            ]
    except OSError:
        return _read_listeners()


def _ask_listeners(asker: socket.socket, family: int) -> Iterator[Listener]:
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
    header = struct.pack(
        "=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0
    )
    asker.send(header + request)
    while True:
        data = asker.recv(1 << 16)
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise OSError("the kernel does not tell listening sockets")
            yield _parse_listener(data[16:length])
            data = data[(length + 3) & ~3 :]


def _parse_listener(message: bytes) -> Listener:
    """`struct inet_diag_msg`: 4 bytes, the port, 2 bytes, the address, ... and last the inode."""
    family = message[0]
    (port,) = struct.unpack_from("!H", message, 4)
    (inode,) = struct.unpack_from("=I", message, 68)
    raw = message[8:12] if family == socket.AF_INET else message[8:24]
    return Listener(port, str(inode), named_address(raw))


def _read_listeners() -> list[Listener]:
    found = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == f"{_TCP_LISTEN:02X}":
                    host, _, port = fields[1].partition(":")
                    found.append(
                        Listener(int(port, 16), fields[9], named_address(raw_address(host)))
                    )
    return found


def raw_address(hexadecimal: str) -> bytes:
    """/proc tells addresses as 32-bit words in the machine's order."""
    words = [hexadecimal[i : i + 8] for i in range(0, len(hexadecimal), 8)]
    return b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)


def named_address(raw: bytes) -> str | None:
    """An address in words; None for every address."""
    if not any(raw):
        return None
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def wildcard_ports(pids: Iterable[int]) -> list[int]:
    """Ports on which one of these processes listens on every address."""
    everywhere = {f"socket:[{one.inode}]": one.port for one in listeners() if one.address is None}
    return sorted({everywhere[s] for pid in pids for s in _sockets(pid) if s in everywhere})


def _sockets(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found
