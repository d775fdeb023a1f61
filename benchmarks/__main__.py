"""Run every benchmark."""

from benchmarks import one_machine

one_machine.main()
