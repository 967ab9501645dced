"""Runs the comparison: python -m benchmarks.cost_fidelity DATA_DIR [PAGE]."""

import sys

from benchmarks.cost_fidelity.run import main

main(sys.argv[1:])
