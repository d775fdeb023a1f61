"""What /proc tells of a pod's processes: their memory, and what they listen on."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"
_WILDCARDS = frozenset({"0" * 8, "0" * 32})
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


def resident(pids: Iterable[int]) -> int:
    """Bytes of memory that these processes hold, counting shared pages once for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return total


def listeners() -> list[Listener]:
    """Every listening TCP socket of the machine."""
    found = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    host, _, port = fields[1].partition(":")
                    address = None if host in _WILDCARDS else _address(host)
                    found.append(Listener(int(port, 16), fields[9], address))
    return found


def _address(hexadecimal: str) -> str:
    words = [bytes.fromhex(hexadecimal[i : i + 8])[::-1] for i in range(0, len(hexadecimal), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def wildcard_ports(pids: Iterable[int]) -> list[int]:
    """Ports on which one of these processes listens on every address."""
    everywhere = {f"socket:[{one.inode}]": one.port for one in listeners() if one.address is None}
    return sorted({everywhere[s] for pid in pids for s in _sockets(pid) if s in everywhere})


def ephemeral_ports() -> range:
    """Ports that the kernel gives to those who do not ask for one."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return range(0)
    return range(int(first), int(last) + 1)


def holder(address: str, port: int) -> str:
    """Who listens there, for people: ` (held by pid 12, nginx)`; empty when it cannot be told."""
    inodes = {
        f"socket:[{one.inode}]"
        for one in listeners()
        if one.port == port and one.address in (None, address)
    }
    if not inodes:
        return ""
    for name in os.listdir("/proc"):
        if name.isdigit() and inodes & set(_sockets(int(name))):
            with contextlib.suppress(OSError):
                return f" (held by pid {name}, {Path(f'/proc/{name}/comm').read_text().strip()})"
    return ""


def _sockets(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found
