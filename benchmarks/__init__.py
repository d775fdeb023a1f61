"""Every figure that Kedge claims, measured: `python -m benchmarks` runs them all.

Ratios in one run on one machine; each result names the machine, the versions and the command.
"""
