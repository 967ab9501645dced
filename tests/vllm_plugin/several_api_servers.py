"""vLLM's server with several API processes: `vllm serve`, which the CPU package cannot run itself.

The command asks for the version of a package named vllm, and the CPU build is named otherwise.
"""

from vllm.entrypoints.cli.serve import run_multi_api_server
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

if __name__ == "__main__":
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args()
    validate_parsed_serve_args(parsed)
    run_multi_api_server(parsed)
