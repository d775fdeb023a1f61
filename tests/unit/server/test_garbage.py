"""What is set aside comes back when a model goes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from kedge.server import garbage


class Node:
    """Part of a cycle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[None]:
    """As it was, after the test."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("collector")
def test_a_cycle_that_was_set_aside_is_found_when_a_model_has_gone() -> None:
    node = Node()
    gone = weakref.ref(node)
    garbage.set_aside()
    del node
    gc.collect()
    assert gone() is not None
    garbage.look_again()
    assert gone() is None
    assert gc.get_freeze_count()


@pytest.mark.usefixtures("collector")
def test_another_program_s_objects_are_left_alone() -> None:
    gc.unfreeze()
    garbage.look_again()
    assert not gc.get_freeze_count()
