"""Numbers that every process of a server can read at any time: one row per worker.

Each cell has one writer, so that no lock is needed: the worker itself, and the parent for a worker
that is gone.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum

_CELLS = 4
_CELL_BYTES = 8
_CONNECTIONS, _TAKEN, _STATE, _BEAT = range(_CELLS)


class State(IntEnum):
    ABSENT = 0
    UNREADY = 1
    READY = 2


class Board:
    """See the module."""

    def __init__(self, file: int, rows: int) -> None:
        self.file = file
        self._rows = rows
        self._map = mmap.mmap(file, rows * _CELLS * _CELL_BYTES)
        self._cells = memoryview(self._map).cast("q")

    @classmethod
    def make(cls, rows: int) -> Board:
        file = os.memfd_create("kedge-board")
        os.ftruncate(file, rows * _CELLS * _CELL_BYTES)
        return cls(file, rows)

    def connections(self, row: int) -> int:
        """How many connections a worker has taken and not lost."""
        return self._cells[row * _CELLS + _CONNECTIONS]

    def taken(self, row: int) -> int:
        """How many it has ever taken out of its inbox."""
        return self._cells[row * _CELLS + _TAKEN]

    def beat(self, row: int) -> int:
        """When its event loop last turned: monotonic milliseconds."""
        return self._cells[row * _CELLS + _BEAT]

    def set_connections(self, row: int, count: int) -> None:
        self._cells[row * _CELLS + _CONNECTIONS] = count

    def set_taken(self, row: int, count: int) -> None:
        self._cells[row * _CELLS + _TAKEN] = count

    def set_state(self, row: int, state: State) -> None:
        self._cells[row * _CELLS + _STATE] = state

    def set_beat(self, row: int, milliseconds: int) -> None:
        self._cells[row * _CELLS + _BEAT] = milliseconds

    def all_ready(self) -> bool:
        """No worker that is there has a model that is not ready."""
        states = [self._cells[row * _CELLS + _STATE] for row in range(self._rows)]
        return State.UNREADY not in states and State.READY in states

    def close(self) -> None:
        self._cells.release()
        self._map.close()
        os.close(self.file)
