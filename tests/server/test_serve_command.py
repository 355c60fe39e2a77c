"""What `dualfocus serve-command` prints is read by vLLM's own argument parser."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from measurements.vllm_server import vllm_python
from tests.serving.launching import launched, printed, write_checkpoint

pytestmark = pytest.mark.server

_PARSER = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
for line in sys.stdin:
    arguments = parser.parse_args(json.loads(line))
    validate_parsed_serve_args(arguments)
    print("PARSED", json.dumps({name: str(value) for name, value in vars(arguments).items()}))
"""


def test_every_command_is_one_of_vllm_s(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small, large = write_checkpoint(tmp_path / "small"), write_checkpoint(tmp_path / "large", gigabytes=700)
    adapter, recipe = tmp_path / "tuned", tmp_path / "mine.yaml"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 24}))
    recipe.write_text(yaml.safe_dump({"pretrained": str(small), "inference": {"min_pixels": 1024, "max_pixels": 2048}}))
    scripts = [
        printed(capsys, "dualfocus-tiny"),
        printed(capsys, small, "--gpus", 4, "--model_args", f"peft={adapter},revision=v1,trust_remote_code=True"),
        printed(capsys, recipe, "--nodes", 2),
        printed(capsys, large, "--gpus", 8, "--nodes", 2),
    ]
    commands = [process[3:] for script in scripts for process in launched(script, tmp_path) if process[1] == "vllm"]
    parsed = _parsed(commands)
    assert len(parsed) == 1 + 4 + 1 + 2
    assert {arguments["limit_mm_per_prompt"] for arguments in parsed} == {"{'image': 2}"}
    assert {arguments["enable_prefix_caching"] for arguments in parsed} == {"True"}
    one, *four, pixels, first, second = parsed
    assert (one["max_model_len"], one["dtype"], one["model_tag"][-14:]) == ("2048", "bfloat16", "dualfocus-tiny")
    assert {arguments["port"] for arguments in four} == {"8000", "8001", "8002", "8003"}
    assert {arguments["max_lora_rank"] for arguments in four} == {"32"}
    assert pixels["mm_processor_kwargs"] == "{'min_pixels': 1024, 'max_pixels': 2048}"
    assert sorted(arguments["node_rank"] for arguments in (first, second)) == ["0", "1"]


def _parsed(commands: list[list[str]]) -> list[dict[str, Any]]:
    """The arguments of each of ``commands`` as vLLM understands them."""
    lines = "".join(json.dumps(command) + "\n" for command in commands)
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [vllm_python(), "-c", _PARSER], input=lines, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("PARSED ")]
