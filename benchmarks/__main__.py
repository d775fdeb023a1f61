"""Run every benchmark: the model server against its peers, then a whole Kedge on this machine."""

from pathlib import Path

from benchmarks import cold_start, one_machine, thousand
from benchmarks.server import run as server

server.main([])
one_machine.main()
RESULTS = Path(__file__).parent / "results"
cold_start.main(["--keep", str(RESULTS / "cold_start.json")])
thousand.main(["--keep", str(RESULTS / "thousand.json")])
