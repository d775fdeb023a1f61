"""Run every benchmark."""

from benchmarks import one_machine
from benchmarks.server import run as server

one_machine.main()
server.main([])
