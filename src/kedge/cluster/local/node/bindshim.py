"""Servers that can only listen on every address are made to listen on their pod's.

Pods share the machine's network, told apart by their loopback addresses, so a server that binds
0.0.0.0 would take its port from every other pod. Where a C compiler is there, a few lines are built
once, kept under the data directory and preloaded into containers. Statically linked programs are
not reached by it; `listeners` finds those.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*bind_fn)(int, const struct sockaddr *, socklen_t);

/* An IPv6-only socket cannot have an IPv4 address. Where the same server already has the pod's
   address on an IPv4 socket, this one is parked on a free port of ::1, where it harms nobody. */
static int bind_v6(bind_fn real, int fd, const struct sockaddr_in6 *asked, struct in_addr pod)
{
    struct sockaddr_in6 mapped = *asked;
    int off = 0, on = 0;
    socklen_t size = sizeof on;

    memset(&mapped.sin6_addr, 0, 10);
    mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&mapped.sin6_addr.s6_addr[12], &pod, 4);
    getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, &size);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (real(fd, (struct sockaddr *)&mapped, sizeof mapped) == 0)
        return 0;
    if (!on || errno != EADDRINUSE)
        return -1;
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    mapped.sin6_addr = in6addr_loopback;
    mapped.sin6_port = 0;
    return real(fd, (struct sockaddr *)&mapped, sizeof mapped);
}

/* Datagram sockets and those that leave the choice of port to the kernel may be a client's, which
   would not get out of the machine from a loopback address. */
static int is_server(int fd, const struct sockaddr *address, socklen_t length)
{
    int type = 0;
    socklen_t size = sizeof type;

    if (!address || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM)
        return 0;
    if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in))
        return ((const struct sockaddr_in *)address)->sin_port != 0;
    if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6))
        return ((const struct sockaddr_in6 *)address)->sin6_port != 0;
    return 0;
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    static bind_fn real;
    const char *text = getenv("KEDGE_BIND_ADDRESS");
    struct in_addr pod;

    if (!real)
        real = (bind_fn)dlsym(RTLD_NEXT, "bind");
    if (text && is_server(fd, address, length) && inet_pton(AF_INET, text, &pod) == 1) {
        if (address->sa_family == AF_INET) {
            struct sockaddr_in v4 = *(const struct sockaddr_in *)address;
            if (v4.sin_addr.s_addr == htonl(INADDR_ANY)) {
                v4.sin_addr = pod;
                return real(fd, (struct sockaddr *)&v4, sizeof v4);
            }
        } else {
            const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
            if (IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))
                return bind_v6(real, fd, v6, pod);
        }
    }
    return real(fd, address, length);
}
"""


async def build(folder: Path) -> Path | None:
    """The library's path; None where there is no compiler, or it fails."""
    digest = hashlib.sha256(_SOURCE.encode()).hexdigest()[:12]
    library = folder / f"bind-{os.uname().machine}-{digest}.so"
    if library.exists():
        return library
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    draft = library.with_suffix(f".{os.getpid()}")
    process = await asyncio.create_subprocess_exec(
        compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-o", str(draft), "-", "-ldl",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await process.communicate(_SOURCE.encode())
    if process.returncode != 0:
        return None
    draft.replace(library)
    return library
