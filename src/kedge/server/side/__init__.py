"""Large JSON, decoded in a process of its own.

A JSON parser holds Python's lock from the first byte to the last: in the server, everybody would
wait for one client's 10 MB. So a body above `SIDE_BYTES` goes to a side process through shared
memory, and comes back as the raw bytes of its arrays, which need no parsing; what must become
Python objects (texts, JSON for models of one's own) comes back in pieces and is built in turns.

`wire` is what both sides agree on, `reading` the side process (which imports no server), `process`
its keeper. `turns` gives the loop back between pieces, on the way in and on the way out.
"""

from __future__ import annotations

import os
import sys

SIDE_BYTES = 256 * 1024 if hasattr(os, "memfd_create") else sys.maxsize
"""JSON up to this is decoded where it stands: about a millisecond."""
