"""The token-sum loss: what it adds up, and that it does not depend on how samples are batched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn import functional

from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.training.batches import REJECTED, EpochSamples, InstructionCollator
from dualfocus_eval.training.encoding import IGNORED, training_processor
from dualfocus_eval.training.loss import TokenSums, token_sums
from dualfocus_eval.training.mixture import FILLER
from dualfocus_eval.training.samples import measure
from dualfocus_eval.training.tuning import Source
from measurements.random_models import build
from tests.training.samples import record, two_rounds, write_data

COUNT = 7


class Case:
    """A random model with the samples of one small file."""

    def __init__(self, architecture: str, folder: Path) -> None:
        self.model, processor = build(architecture)
        self.processor = training_processor(processor, FAMILIES[architecture], "x")
        self.samples = measure(Source("train.json", "images"), folder, self.processor, folder / architecture)
        self.collator = InstructionCollator(self.processor)

    def batch(self, *rows: int) -> dict[str, Any]:
        chosen = [(0, row) for row in range(len(self.samples))]
        return self.collator(list(EpochSamples([self.samples], chosen, rows, self.processor)))

    def sums(self, *rows: int) -> TokenSums:
        inputs = self.batch(*rows)
        assert inputs.pop(REJECTED) == []
        return token_sums(self.model, inputs)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "data"
    write_data(folder, COUNT)
    return folder


@pytest.fixture(scope="module", params=["llava", "qwen2_vl", "qwen2_5_vl"])
def case(request: pytest.FixtureRequest, data: Path) -> Case:
    return Case(request.param, data)


@torch.no_grad()
def test_one_pass_over_two_rounds_is_the_sum_of_two_forwards(case: Case) -> None:
    """Eq. 4, by plain forwards over the processor's own inputs: [image, Q1] to A1, [image, Q1, A1, crop, Q2] to A2."""
    found, samples = record(two_rounds()), case.samples
    pictures = [Image.open(path).convert("RGB") for path in samples.files.paths(samples[0])]

    def nll(messages: list[dict[str, Any]], images: list[Any]) -> torch.Tensor:
        """Of the last answer."""
        render = case.processor.apply_chat_template
        before = render(messages[:-1], tokenize=False, add_generation_prompt=True)
        end = case.processor.tokenizer.eos_token
        space = " " if "ASSISTANT:" in before else ""
        whole = f"{before}{space}{messages[-1]['content'][0]['text']}{end}"
        asked = case.processor(text=before, images=images, return_tensors="pt")
        inputs = case.processor(text=whole, images=images, return_tensors="pt")
        start, ids = asked["input_ids"].shape[1], inputs["input_ids"][0]
        return functional.cross_entropy(case.model(**inputs).logits[0, start - 1 : -1], ids[start:], reduction="sum")

    first = nll(found.messages[:2], pictures[:1])
    second = nll(found.messages, pictures)
    both = case.sums(0)
    torch.testing.assert_close(both.loss, first + second, rtol=1e-5, atol=0)
    torch.testing.assert_close(both.grounding_loss, first, rtol=1e-5, atol=0)


@torch.no_grad()
def test_batches_do_not_change_the_sums(case: Case) -> None:
    alone = [case.sums(row) for row in range(COUNT)]
    together = case.sums(*range(COUNT))
    for name in ("loss", "grounding_loss", "tokens", "grounding_tokens"):
        total = torch.stack([getattr(sums, name) for sums in alone]).sum(0)
        torch.testing.assert_close(getattr(together, name), total, rtol=1e-5, atol=0)
    inputs = case.batch(*range(COUNT))
    assert int(together.tokens) == int((inputs["labels"] != IGNORED).sum())


def test_every_batch_has_an_image_and_a_gradient(case: Case) -> None:
    """So that all processes run the same parts of a model whose weights are shared out."""
    connector = next(
        weight for name, weight in case.model.named_parameters() if "projector" in name or "merger" in name
    )
    text_only, nothing = case.sums(2), case.sums(FILLER)
    assert int(text_only.tokens) > 0
    assert (int(nothing.tokens), float(nothing.loss)) == (0, 0.0)
    for sums in (text_only, nothing):
        (gradient,) = torch.autograd.grad(sums.loss, connector)
        assert not gradient.any()


def test_an_image_that_cannot_be_read_costs_its_sample_and_is_named(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_data(folder, COUNT)
    case = Case("llava", folder)
    whole = case.sums(0, 2)
    cut = (folder / "images/1.png").read_bytes()[:-60]
    (folder / "images/1.png").write_bytes(cut)
    inputs = case.batch(0, 1, 2)
    (fault,) = inputs.pop(REJECTED)
    assert fault.where == "train.json, entry 2"
    assert "1.png" in fault.reason
    torch.testing.assert_close(token_sums(case.model, inputs).loss, whole.loss)


def test_what_is_missing_is_found_before_training(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    rows = write_data(folder, COUNT)
    (folder / "images/1.png").unlink()
    (folder / "train.json").write_text(json.dumps([*rows, {"image": "x.png", "conversations": []}]))
    samples = Case("llava", folder).samples
    assert [fault.where for fault in samples.faults] == [f"train.json, entry {number}" for number in (2, 5, 8)]
    assert samples.faults[0].reason.endswith("1.png is missing")
    assert samples.faults[-1] == Rejected("train.json, entry 8", "no answer to learn")
    assert len(samples) == COUNT - 2


def test_lengths_are_those_of_the_batches(case: Case) -> None:
    for row in range(COUNT):
        inputs = case.batch(row)
        assert int(inputs["attention_mask"][0].sum()) == case.samples.column("length")[row]
        assert int((inputs["labels"][0] != IGNORED).sum()) == case.samples.column("targets")[row]
        assert int(inputs["grounding"][0].sum()) == case.samples.column("grounding")[row]


def test_measures_are_kept_for_the_next_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = training_processor(build("llava")[1], FAMILIES["llava"], "x")
    source = Source("train.json", "images")
    first = measure(source, data, processor, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    monkeypatch.setattr("dualfocus_eval.training.measuring.encode", None)
    again = measure(source, data, processor, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert again.table.equals(first.table)


def test_measuring_in_processes_gives_the_same(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = training_processor(build("llava")[1], FAMILIES["llava"], "x")
    alone = measure(Source("train.json", "images"), data, processor, tmp_path / "alone")
    monkeypatch.setattr("dualfocus_eval.training.measuring.ALONE", 2)
    monkeypatch.setattr("dualfocus_eval.training.measuring.AT_ONCE", 2)
    shared = measure(Source("train.json", "images"), data, processor, tmp_path / "shared")
    assert shared.table.to_pylist() == alone.table.to_pylist()
