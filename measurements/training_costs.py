"""What training the recipes in models/ costs, estimated from the published architectures and data set sizes.

    python -m measurements.training_costs            # print
    python -m measurements.training_costs --write    # and put it into the recipes and docs/training.md

The architectures are built from the sizes below on the meta device, so that no checkpoint is needed. The data are not
at hand here: their numbers of samples are published, the tokens per sample are assumed, and the table says so. With the
data on disk, `dualfocus train RECIPE --dry-run` counts them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import LlavaConfig, Qwen2_5_VLConfig, Qwen3VLConfig

from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.common.tables import Table, fill_page, to_markdown
from dualfocus_eval.recipe import Recipe, load_recipe
from dualfocus_eval.training.costs import UTILISATION, StageCost, gpu_hours, stage_cost
from dualfocus_eval.training.flops import Load
from dualfocus_eval.training.memory import Sharding, training_memory
from dualfocus_eval.training.sizes import ModelSize, model_size
from dualfocus_eval.training.tuning import TuningStage, tuning_plan

PAGE = Path(__file__).parent.parent / "docs" / "training.md"
GPU, DEVICES, SHARDING = "H100", 8, "fsdp"
DUALFOCUS, WITH_IMAGE, TEXT_ONLY = 143_978, 624_610, 40_688
"""Samples: the paper's (appendix D), and those of LLaVA-1.5's mix with and without an image."""
_TEXT = {"dualfocus": 130, "image": 250, "text": 1000}
_TARGETS = {"dualfocus": 25, "image": 110, "text": 600}
"""Assumed tokens of a sample beside its images', and how many of them are answers."""

ARCHITECTURES: Mapping[str, Any] = {
    "llava-1.5-7b": lambda: LlavaConfig(text_config=_llama(4096, 11008, 32)),
    "llava-1.5-7b-without-vg": lambda: LlavaConfig(text_config=_llama(4096, 11008, 32)),
    "llava-1.5-13b": lambda: LlavaConfig(text_config=_llama(5120, 13824, 40)),
    "share4v-13b": lambda: LlavaConfig(text_config=_llama(5120, 13824, 40)),
    "qwen2.5-vl-7b": lambda: Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
        },
        vision_config={"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
    ),
    "qwen3-vl-8b": lambda: Qwen3VLConfig(
        text_config={
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
        },
        vision_config={"out_hidden_size": 4096},
    ),
}
"""By recipe; what is not said is transformers' default, which for all is the published one."""
IMAGE_TOKENS = {"llava": 576, "qwen2_5_vl": 391, "qwen3_vl": 300}
"""Of LLaVA's square of 336 pixels, and of an image of 640 x 480, the usual size in both data sets."""


def _llama(width: int, mlp: int, layers: int) -> dict[str, Any]:
    heads = width // 128
    return {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "vocab_size": 32064,
    }


def estimate(name: str) -> tuple[Recipe, ModelSize, TuningStage, StageCost]:
    """The only stage of recipe ``name``, and what it costs."""
    recipe = load_recipe(name)
    plan = tuning_plan(recipe)
    (stage,) = plan.stages
    config = ARCHITECTURES[name]()
    size = model_size(config)
    image = IMAGE_TOKENS[config.model_type]
    kinds = [("dualfocus", DUALFOCUS, 2)] if any("dualfocus" in source.file for source in stage.data) else []
    groups = [
        (count, Load(images * image + _TEXT[kind], images, images * image, _TARGETS[kind]))
        for kind, count, images in (*kinds, ("image", WITH_IMAGE, 1), ("text", TEXT_ONLY, 0))
    ]
    return recipe, size, stage, stage_cost(size, stage, groups)


def figures(name: str) -> dict[str, Any]:
    """What stands in the recipe: hours and memory on one node."""
    _, _, _, cost = estimate(name)
    return {
        "samples": cost.samples,
        "steps": cost.steps,
        "flops": float(f"{cost.flops:.1e}"),
        "gpu": GPU,
        "gpu_hours": round(gpu_hours(cost.flops, GPU)),
        "utilisation": UTILISATION,
        "devices": DEVICES,
        "sharding": SHARDING,
        "gb_per_device": gigabytes(name, SHARDING, DEVICES),
    }


def gigabytes(name: str, sharding: Sharding, devices: int) -> int:
    """On each device, in a batch of samples of the greatest length, half of it answers."""
    _, size, stage, _ = estimate(name)
    image_tokens = 2 * IMAGE_TOKENS[ARCHITECTURES[name]().model_type]
    longest = Load(stage.max_length, 2, image_tokens, stage.max_length // 2)
    return round(training_memory(size, stage, sharding, devices, longest).total / 1e9)


def table() -> Table:
    """All recipes side by side."""
    rows = []
    for name in ARCHITECTURES:
        _, size, _, cost = estimate(name)
        found = figures(name)
        rows.append(
            (
                name,
                f"{sum(size.parameters.values()) / 1e9:.2f} billion",
                f"{cost.tokens / 1e6:,.0f} million",
                f"{cost.steps:,}",
                f"{cost.flops:.1e}",
                f"{gpu_hours(cost.flops, 'A100'):,.0f}",
                f"{gpu_hours(cost.flops, 'H100'):,.0f}",
                f"{gigabytes(name, 'none', 1)} GB",
                f"{found['gb_per_device']} GB",
            )
        )
    images = ", ".join(f"{tokens} ({model_type})" for model_type, tokens in IMAGE_TOKENS.items())
    note = (
        f"{DUALFOCUS + WITH_IMAGE + TEXT_ONLY:,} samples, or {WITH_IMAGE + TEXT_ONLY:,} without Visual Genome. Assumed "
        f"per sample: images of {images} tokens, and beside them {_TEXT['dualfocus']} tokens in DualFocus samples, "
        f"{_TEXT['image']} in others with an image, {_TEXT['text']} in those without. GPU hours at {UTILISATION:.0%} "
        f"of the peak; memory per GPU in a batch of the greatest length, on one and with {SHARDING} on {DEVICES}."
    )
    header = ("recipe", "parameters", "tokens", "steps", "FLOPs", "A100 hours", "H100 hours", "on 1", f"on {DEVICES}")
    return Table("", header, (tuple(rows),), (note,))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write the recipes' estimates and {PAGE.name}")
    options = parser.parse_args()
    page = to_markdown(table())
    print(page)
    if options.write:
        fill_page(PAGE, {"training costs": page})
        for name in ARCHITECTURES:
            path = resource_folder("models") / f"{name}.yaml"
            kept = path.read_text(encoding="utf-8").partition("\nestimate:")[0].rstrip("\n")
            found = yaml.safe_dump({"estimate": figures(name)}, sort_keys=False)
            command = "  # python -m measurements.training_costs --write"
            path.write_text(f"{kept}\n\n{found.replace('estimate:', 'estimate:' + command, 1)}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
