"""The garbage collector, kept away from what lives as long as its model does.

A framework and a model are some hundred thousand objects, and looking through them takes a tenth
of a second in which nobody is answered. So they are set aside once the server is ready, and looked
at again when a model has gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from contextlib import suppress

_YOUNG = 10_000
"""New objects before they are looked through: more than the requests of one batch are made of."""
_LET_GO_SECONDS = 0.1


def set_aside() -> None:
    """Everything that is here now will stay."""
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


def look_again() -> None:
    """A model has gone: what it leaves behind is given back."""
    if not gc.get_freeze_count():
        return  # Part of another program, which has its own ways.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    with suppress(AttributeError):  # Not every C library keeps what it was given back.
        ctypes.CDLL(None).malloc_trim(0)


def look_again_soon() -> None:
    """The same, when those who just spoke of the model have let go of it."""
    try:
        asyncio.get_running_loop().call_later(_LET_GO_SECONDS, look_again)
    except RuntimeError:
        look_again()
