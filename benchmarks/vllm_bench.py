"""vLLM's own serving benchmark, `vllm bench serve`, where the `vllm` command does not start.

    python -m benchmarks.vllm_bench --base-url http://127.0.0.1:8000 --model NAME ...

The CPU build is not a distribution named vllm, for which that command asks; the benchmark itself
is part of it. Arguments and output are vLLM's.
"""

from __future__ import annotations

from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

if __name__ == "__main__":
    parser = FlexibleArgumentParser(prog="vllm bench serve")
    add_cli_args(parser)
    main(parser.parse_args())
