"""Run every benchmark: the model server against its peers, then a whole Kedge on this machine."""

from benchmarks import one_machine
from benchmarks.server import run as server

server.main([])
one_machine.main()
