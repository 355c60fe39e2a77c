"""Runs in vLLM's environment: its own parser reads the arguments of ``vllm serve`` on standard input, a JSON list a line."""

import json
import sys

from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

for line in sys.stdin:
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(json.loads(line))
    validate_parsed_serve_args(arguments)
    found = {
        name: getattr(arguments, name)
        for name in ("model_tag", "max_model_len", "limit_mm_per_prompt", "mm_processor_kwargs", "headless", "nnodes")
    }
    print("PARSED", json.dumps(found))
