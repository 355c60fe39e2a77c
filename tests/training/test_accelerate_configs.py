"""The configurations in models/accelerate, as accelerate and transformers read them."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.training.trainer import reduce_in_float32

FOLDER = resource_folder("models") / "accelerate"


def launched(name: str, *options: str) -> Any:
    """The arguments of ``accelerate launch`` with the configuration ``name``, its defaults filled in."""
    given = ["--config_file", str(FOLDER / f"{name}.yaml"), *options, "-m", "dualfocus_eval", "train", "llava-1.5-7b"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    fields = yaml.safe_load((FOLDER / f"{name}.yaml").read_text()).get("deepspeed_config", {})
    arguments.deepspeed_fields_from_accelerate_config = ",".join(fields)
    return arguments


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_fsdp_shards_everything_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = launched("fsdp")
    assert (arguments.use_fsdp, arguments.num_processes) == (True, 8)
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setitem(os.environ, name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert not plugin.activation_checkpointing  # the recipe's gradient_checkpointing decides; both fail together
    plugin.set_mixed_precision("bf16")
    reduce_in_float32(plugin)
    assert plugin.mixed_precision_policy.param_dtype == torch.bfloat16
    assert plugin.mixed_precision_policy.reduce_dtype == torch.float32


@pytest.mark.parametrize("stage", [2, 3])
def test_zero_takes_batch_and_accumulation_from_the_recipe(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = launched(f"zero{stage}")
    assert (arguments.use_deepspeed, arguments.num_processes) == (True, 8)
    for name, value in prepare_deepspeed_cmd_env(arguments)[1].items():
        monkeypatch.setitem(os.environ, name, value)
    plugin = DeepSpeedPlugin()
    plugin.deepspeed_config_process(  # raises for what is still "auto" and for what contradicts
        train_batch_size=128, train_micro_batch_size_per_gpu=4, gradient_accumulation_steps=4, gradient_clipping=1.0
    )
    config = plugin.deepspeed_config
    assert config["zero_optimization"]["stage"] == stage
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is (stage == 3)
    assert (config["gradient_accumulation_steps"], config["gradient_clipping"]) == (4, 1.0)


def test_several_nodes_are_options_of_the_launch() -> None:
    arguments = launched(
        "zero3", "--num_machines", "2", "--num_processes", "16", "--machine_rank", "1", "--main_process_ip", "node0"
    )
    assert (arguments.num_machines, arguments.num_processes, arguments.machine_rank) == (2, 16, 1)
