"""The garbage collector, kept away from what lives as long as its model does.

A framework and a model are some hundred thousand objects, and looking through them takes a tenth
of a second in which nobody is answered. So they are set aside once the server is ready, and looked
at again when a model has gone.
"""

from __future__ import annotations

import gc

_YOUNG = 10_000
"""New objects before they are looked through: more than the requests of one batch are made of."""


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
