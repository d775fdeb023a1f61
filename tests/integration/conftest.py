"""Fixtures of the tests that start processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.node_world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A node agent that runs, and leaves nothing behind."""
    world = World(tmp_path)
    await world.start()
    yield world
    await world.close()
