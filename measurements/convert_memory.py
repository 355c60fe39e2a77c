"""Peak memory of `dualfocus convert llava`: its growth over start-up must stay under twice the largest weight file.

    python -m measurements.convert_memory                        # three files of about 500 MB, safetensors and .bin
    python -m measurements.convert_memory --file-megabytes 100

The weights are of a Llama of that size in half precision; their values do not matter. Each conversion is a process of
its own: start-up is its largest resident set once everything is imported, as the operating system counts it, and pages
of a mapped file count as long as they are mapped. This process stays small, as a child starts with its parent's peak.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

FORMATS = ("safetensors", "bin")
VOCABULARY = 31999
"""One short of a multiple of 64, so that the embeddings are padded, which copies them."""
LIMIT = 2.0
"""Growth over start-up, in sizes of the largest weight file."""


def write(folder: Path, suffix: str, file_bytes: int, files: int) -> None:
    """A checkpoint in the original layout with ``files`` weight files of at most ``file_bytes``, in the usual order."""
    import json

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from measurements.original_llava import build_original, config, write_tokenizer, write_weights

    folder.mkdir(parents=True)
    write_tokenizer(folder)
    small = build_original(vocabulary=64)
    small.tower.save_pretrained(folder / "tower")
    width = 2048 if file_bytes > 300e6 else 1024
    layer = 2 * (4 * width**2 + 3 * width * 2752)  # bytes, without the norms
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": 2752,
        "num_hidden_layers": int((0.97 * files * file_bytes - 4 * VOCABULARY * width) // layer),
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
    }
    (folder / "config.json").write_text(json.dumps(config(**sizes)))
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in LlamaForCausalLM(LlamaConfig(**sizes)).state_dict().items()}
    shapes |= {key: value.shape for key, value in small.state(with_tower=True).items() if ".vision_tower." in key}
    shapes |= {
        "model.mm_projector.0.weight": torch.Size((width, small.tower.config.hidden_size)),
        "model.mm_projector.0.bias": torch.Size((width,)),
        "model.mm_projector.2.weight": torch.Size((width, width)),
        "model.mm_projector.2.bias": torch.Size((width,)),
    }
    names: list[list[str]] = [[]]
    used = 0
    for key, shape in shapes.items():
        if used + 2 * shape.numel() > file_bytes:
            names.append([])
            used = 0
        names[-1].append(key)
        used += 2 * shape.numel()
    index = {}
    for number, keys in enumerate(names):
        weights = {key: torch.full(shapes[key], 0.01, dtype=torch.float16) for key in keys}
        part = folder / str(number)
        part.mkdir()
        write_weights(part, weights, suffix, 1)
        (written,) = part.iterdir()
        written.rename(folder / f"{number:05}-{written.name}")
        index |= dict.fromkeys(keys, f"{number:05}-{written.name}")
        part.rmdir()
    stem = "model.safetensors" if suffix == "safetensors" else "pytorch_model.bin"
    (folder / f"{stem}.index.json").write_text(json.dumps({"weight_map": index}))


def convert(folder: Path, out: Path) -> None:
    """Convert and print start-up and peak, in KiB."""
    from dualfocus_eval.convert.llava import convert as run
    from dualfocus_eval.convert.source import read_source
    from dualfocus_eval.recipe import load_recipe

    source, recipe = read_source(folder), load_recipe("released")
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(source, out, folder / "tower", recipe)
    print(started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def measure(suffix: str, file_bytes: int, files: int) -> tuple[float, float, float, float]:
    """Megabytes (10^6 bytes): all weights, the largest file, start-up, and growth over it."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "source", Path(folder) / "out"
        step = [sys.executable, "-m", "measurements.convert_memory"]
        sizes = [str(file_bytes), str(files)]
        subprocess.run([*step, "--write", str(source), suffix, *sizes], check=True, stdout=subprocess.PIPE)
        written = [path.stat().st_size for path in source.glob(f"*.{suffix}")]
        done = subprocess.run(
            [*step, "--convert", str(source), str(out)], check=True, stdout=subprocess.PIPE, text=True
        )
        started, peak = (1024 * int(value) / 1e6 for value in done.stdout.split()[-2:])
        return sum(written) / 1e6, max(written) / 1e6, started, peak - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--file-megabytes", type=float, default=500, help="size of a weight file (default: %(default)s)"
    )
    parser.add_argument("--files", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--convert", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(Path(options.write[0]), options.write[1], int(options.write[2]), int(options.write[3]))
        return 0
    if options.convert:
        convert(Path(options.convert[0]), Path(options.convert[1]))
        return 0
    print("| format | weights | largest file | start-up | growth | growth / largest file |\n|---|---|---|---|---|---|")
    sound = True
    for suffix in FORMATS:
        whole, largest, started, growth = measure(suffix, int(options.file_megabytes * 1e6), options.files)
        row = " | ".join(f"{size:,.0f} MB" for size in (whole, largest, started, growth))
        print(f"| {suffix} | {row} | {growth / largest:.2f} |", flush=True)
        sound &= growth < LIMIT * largest
    print("holds" if sound else "DOES NOT HOLD")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
