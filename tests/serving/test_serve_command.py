"""`dualfocus serve-command`: what a shell makes of it, and the layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dualfocus_eval.cli.main import main
from dualfocus_eval.cli.model_args import parse_arguments
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.arguments import check
from dualfocus_eval.serving.placement import Placement, place
from tests.serving.launching import launched, option, printed, write_checkpoint


def test_the_embedded_recipe_on_one_gpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    evaluation, server = launched(printed(capsys, "dualfocus-tiny"), tmp_path)
    checkpoint = server[3]
    assert server[:3] == [None, "vllm", "serve"]
    assert (Path(checkpoint) / "config.json").is_file()
    assert json.loads(option(server, "--limit-mm-per-prompt") or "") == {"image": 2}
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(server)
    flags = ("--served-model-name", "--dtype", "--max-model-len", "--max-logprobs", "--port", "--host")
    assert [option(server, flag) for flag in flags] == ["dualfocus-tiny", "bfloat16", "2048", "20", "8000", "127.0.0.1"]
    assert not {"--tensor-parallel-size", "--revision", "--enable-lora", "--mm-processor-kwargs"} & set(server)
    assert evaluation[1:3] == ["dualfocus", "eval"]
    arguments = parse_arguments("--model_args", option(evaluation, "--model_args") or "")
    assert arguments["base_url"] == "http://localhost:8000"
    assert (arguments["recipe"], arguments["pretrained"]) == ("dualfocus-tiny", checkpoint)
    check(arguments)


def test_every_server_of_a_cluster_is_an_address_of_the_evaluation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "a model of 70 GB", gigabytes=70)
    script = printed(capsys, checkpoint, "--gpus", 8, "--nodes", 2, "--gpu-memory", 80, "--port", 9000)
    *servers, evaluation = launched(script, tmp_path)
    assert [(server[0], option(server, "--port")) for server in servers] == [
        ("0,1", "9000"),
        ("2,3", "9001"),
        ("4,5", "9002"),
        ("6,7", "9003"),
    ]
    assert {option(server, "--tensor-parallel-size") for server in servers} == {"2"}
    assert {option(server, "--host") for server in servers} == {"0.0.0.0"}
    assert {server[3] for server in servers} == {str(checkpoint)}
    arguments = parse_arguments("--model_args", option(evaluation, "--model_args") or "")
    assert arguments["base_url"].strip('"').split(",") == [
        f"http://NODE{node}:{port}" for node in (0, 1) for port in range(9000, 9004)
    ]
    assert (arguments["pretrained"], arguments["concurrency"]) == (str(checkpoint), 512)
    check(arguments)


@pytest.mark.parametrize("server", ["vllm", "sglang"])
def test_weights_of_several_nodes(server: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "large", gigabytes=700)
    script = printed(capsys, checkpoint, "--gpus", 8, "--nodes", 2, "--server", server)
    assert script.count("# on NODE") == 2
    *processes, evaluation = sorted(
        launched(script, tmp_path), key=lambda process: option(process, "--node-rank") or "9"
    )
    first, second = processes
    assert [option(process, "--node-rank") for process in (first, second)] == ["0", "1"]
    assert {option(process, "--nnodes") for process in (first, second)} == {"2"}
    if server == "vllm":
        assert {option(process, "--master-addr") for process in (first, second)} == {"NODE0"}
        assert {option(process, "--tensor-parallel-size") for process in (first, second)} == {"8"}
        assert {option(process, "--pipeline-parallel-size") for process in (first, second)} == {"2"}
        assert ["--headless" in process for process in (first, second)] == [False, True]
    else:
        assert {option(process, "--dist-init-addr") for process in (first, second)} == {"NODE0:29501"}
        assert {option(process, "--tp-size") for process in (first, second)} == {"16"}
    assert "base_url=http://NODE0:" in (option(evaluation, "--model_args") or "")


def test_limits_of_a_recipe_revision_and_thinking(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "qwen", model_type="qwen3_vl")
    recipe = tmp_path / "mine.yaml"
    inference = {"min_pixels": 1024, "max_pixels": 2048}
    recipe.write_text(yaml.safe_dump({"pretrained": str(checkpoint), "inference": inference}))
    given = "revision=v1.0,trust_remote_code=True,dtype=float16"
    evaluation, vllm = launched(printed(capsys, recipe, "--model_args", given), tmp_path)
    assert json.loads(option(vllm, "--mm-processor-kwargs") or "") == inference
    assert (option(vllm, "--revision"), option(vllm, "--dtype")) == ("v1.0", "float16")
    assert "--trust-remote-code" in vllm
    assert option(vllm, "--max-model-len") is None  # there is no processor to tell how much images take
    assert "recipe=" + str(recipe) in (option(evaluation, "--model_args") or "")
    _, sglang = launched(printed(capsys, recipe, "--server", "sglang", "--model_args", given), tmp_path)
    assert sglang[1:4] == ["python", "-m", "sglang.launch_server"]
    assert json.loads(option(sglang, "--mm-process-config") or "") == {"image": inference}
    assert json.loads(option(sglang, "--limit-mm-data-per-request") or "") == {"image": 2}
    assert (option(sglang, "--revision"), option(sglang, "--port")) == ("v1.0", "30000")


def test_an_adapter_is_served_beside_its_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checkpoint, adapter = write_checkpoint(tmp_path / "base"), tmp_path / "tuned"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 16, "rank_pattern": {"q_proj": 24}}))
    given = ("--model_args", f"peft={adapter}")
    evaluation, vllm = launched(printed(capsys, checkpoint, *given), tmp_path)
    assert (option(vllm, "--lora-modules"), option(vllm, "--max-lora-rank")) == (f"tuned={adapter}", "32")
    assert "model=tuned" in (option(evaluation, "--model_args") or "")
    assert main(["serve-command", str(checkpoint), "--server", "sglang", *given]) == 2
    assert "pass --server vllm" in capsys.readouterr().err
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 16, "modules_to_save": ["lm_head"]}))
    assert main(["serve-command", str(checkpoint), *given]) == 2
    assert "merge it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gigabytes", "gpus", "nodes", "expected"),
    [
        (16, 1, 1, Placement(1, 1, 1)),
        (16, 8, 4, Placement(4, 1, 8)),  # small: a copy on every GPU
        (60, 8, 1, Placement(1, 2, 4)),  # more than 0.6 of one GPU
        (150, 6, 1, Placement(1, 4, 1)),  # powers of two divide the heads; two GPUs are left
        (480, 8, 3, Placement(2, 8, 1, 2)),  # two nodes to a server, one node is left
        (None, 2, 1, Placement(1, 1, 2)),
    ],
)
def test_layouts(gigabytes: int | None, gpus: int, nodes: int, expected: Placement) -> None:
    size = gigabytes * 10**9 if gigabytes is not None else None
    assert place(size, 32, gpus=gpus, nodes=nodes, gpu_memory=80) == expected


def test_weights_that_fit_nowhere_are_refused() -> None:
    with pytest.raises(UserError, match="raise --gpus, --nodes or --gpu-memory"):
        place(10**12, 32, gpus=8, nodes=1, gpu_memory=80)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["qwen3-vl-8"], "Did you mean qwen3-vl-8b?"),
        (["dualfocus-tiny", "--gpus", "0"], "--gpus 0: give a number above 0"),
        (["dualfocus-tiny", "--gpu-memory", "nan"], "--gpu-memory nan: give a number above 0"),
        (["dualfocus-tiny", "--model_args", "engine=server,base_url=http://a"], "is not for this command"),
        (["dualfocus-tiny", "--model_args", "grounding=nowhere"], "grounding"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-command", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
