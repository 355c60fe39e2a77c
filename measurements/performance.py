"""How long an answer takes, and how much of the work is avoidable.

    python -m measurements.performance --write    # docs/performance.md

Three ways to answer the same questions with the same weights, side by side in one process: the pipeline over the
in-process engine at several batch sizes, a two-pass without any reuse (`measurements.naive`), and lmms-eval's own
``llava_hf``, which makes a single pass. They take turns question by question, so that whatever else the machine does
hits all alike; a figure is the median over rounds. `measurements.gpu` measures models of 7B on a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dualfocus_eval.engines.base import Counters
from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.engines.image_inputs import ImageEncoder
from dualfocus_eval.engines.rendering import Renderer
from dualfocus_eval.engines.template import ChatTemplate
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.crops import crop_picture
from dualfocus_eval.method.grounding.base import Exchange
from dualfocus_eval.method.grounding.text_box import grounding_conversation
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass.append_crop import APPEND_CROP
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Trace
from measurements.flop_count import count_flops
from measurements.flop_floor import Floor
from measurements.naive import Answer, NaiveTwoPass
from measurements.performance_model import BOX_TOKENS, PROMPT_SET, ScriptedEngine, questions
from measurements.performance_page import NAIVE, SINGLE, Comparison, Contender, named, page, table, verdicts
from measurements.single_pass import single_pass
from measurements.sized_models import build

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
SETTINGS = Settings(max_box_tokens=BOX_TOKENS, prompt_set=PROMPT_SET)
PREFIX_CACHE = 2 << 30
TOLERANCE = 1e-3
"""Agreement of float32 log-probabilities of candidates whose prompts were computed in different pieces."""


def contenders(
    checkpoint: Checkpoint, boxes: dict[str, str], single: Any, options: argparse.Namespace
) -> list[Contender]:
    """Fresh ones: nothing that one round computed is there for the next."""

    def ours(batch: int) -> Contender:
        engine = ScriptedEngine(checkpoint, 2 * batch, PREFIX_CACHE, boxes)  # two conversations of each question
        return Contender("dualfocus", batch, lambda asked: answer(asked, engine, SETTINGS))

    naive = NaiveTwoPass(checkpoint.model, checkpoint.processor, boxes)
    return [
        *(ours(batch) for batch in options.batches),
        Contender(NAIVE, 1, lambda asked: [naive.answer(question) for question in asked], options.sample),
        Contender(SINGLE, 1, single, options.sample),
    ]


def play(entrants: Sequence[Contender], asked: Sequence[Question], *, count: bool) -> None:
    """One round: everybody answers, in turns. With ``count``, operations are counted, and no time is taken."""
    wall, cpu = dict.fromkeys(entrants, 0.0), dict.fromkeys(entrants, 0.0)
    for start in range(len(asked)):
        for contender in entrants:
            if start % max(contender.batch, contender.every):
                continue
            batch = asked[start : start + contender.batch]
            if count:
                flops, answers = count_flops(partial(contender.answer, batch))
                contender.flops += flops
            else:
                began = time.perf_counter(), time.process_time()
                answers = contender.answer(batch)
                wall[contender] += time.perf_counter() - began[0]
                cpu[contender] += time.process_time() - began[1]
            contender.answers.update(enumerate(answers, start))
    for contender in entrants:
        answered = len(contender.answers)
        if count:
            contender.flops /= answered
        else:
            contender.wall.append(wall[contender] / answered)
            contender.cpu.append(cpu[contender] / answered)


def floor_of(checkpoint: Checkpoint, asked: Sequence[Question], traces: Mapping[int, Trace]) -> float:
    """Floating-point operations per question that no exact two-pass can do without."""
    floor = Floor(checkpoint.model)
    encoder = ImageEncoder(checkpoint.model, checkpoint.processor, checkpoint.family, Counters())
    render = Renderer(encoder, ChatTemplate.of(checkpoint)).render
    for number, question in enumerate(asked):
        trace = traces[number]
        assert trace.macro
        assert trace.micro
        assert trace.grounding
        box, crop, response = trace.grounding.box, trace.grounding.crop, trace.grounding.response
        assert box
        assert crop
        assert response
        told = Exchange(grounding_conversation(question, PROMPT_SET), response)
        zoom = Zoom(box, crop, crop_picture(question.images[0], crop), told)
        context = render(APPEND_CROP.scoring_context(question, zoom, PROMPT_SET))
        floor.add(render(macro_conversation(question)), trace.macro.token_ids)
        floor.add(render(told.conversation), response.token_ids)
        floor.add(render(APPEND_CROP.conversation(question, zoom, PROMPT_SET)), trace.micro.token_ids)
        floor.add(context, trace.macro.token_ids)
        floor.add(context, trace.micro.token_ids)
    return floor.flops / len(asked)


def differing(entrants: Sequence[Contender]) -> list[str]:
    """Where not all give one and the same answers, or where candidates were not scored."""
    naive, single = (named(entrants, name).answers for name in (NAIVE, SINGLE))
    problems = []
    for contender in entrants:
        if contender.name in (NAIVE, SINGLE):
            continue
        for number, trace in contender.answers.items():
            where = f"{contender.name}, batch {contender.batch}, question {number}"
            if not (trace.macro and trace.micro and trace.grounding and trace.scores):
                problems.append(f"{where}: not answered in two scored passes: {trace.fallback or trace.decision}")
                continue
            if number in naive:
                problems += [f"{where}: {problem}" for problem in _unlike(trace, naive[number])]
            if number in single and trace.macro.text != single[number]:
                problems.append(f"{where}: macro answer {trace.macro.text!r}, {SINGLE} {single[number]!r}")
    return problems


def _unlike(trace: Any, wanted: Answer) -> list[str]:
    ids = trace.macro.token_ids, trace.grounding.response.token_ids, trace.micro.token_ids
    if ids != (wanted.macro, wanted.grounding_response, wanted.micro):
        return [f"{ids} instead of {(wanted.macro, wanted.grounding_response, wanted.micro)}"]
    pairs = zip((*trace.scores.macro, *trace.scores.micro), (*wanted.scores[0], *wanted.scores[1]), strict=True)
    worst = max(abs(a - b) for a, b in pairs)
    return [f"scores differ by {worst:.1e}"] if worst > TOLERANCE else []


@dataclass(frozen=True, eq=False)
class Measurement:
    """A comparison in the making: so many images with so many questions each."""

    checkpoint: Checkpoint
    single: Callable[[Sequence[Question]], list[str]]
    options: argparse.Namespace
    images: int
    per_image: int

    def counted(self) -> Comparison:
        """Operations and their floor; no times yet."""
        asked, boxes = questions(self.images, self.per_image, self.options.seed)
        entrants = contenders(self.checkpoint, boxes, self.single, self.options)
        play(entrants, asked, count=True)
        # Answers that were only counted are all alike and share more than real ones: the floor is a trifle too low.
        floor = floor_of(self.checkpoint, asked, entrants[0].answers)
        return Comparison(self.images, self.per_image, entrants, floor)

    def timed(self, result: Comparison) -> Comparison:
        """``result`` with one more round of times, and what is wrong with the answers."""
        asked, boxes = questions(self.images, self.per_image, self.options.seed)
        entrants = contenders(self.checkpoint, boxes, self.single, self.options)
        play(entrants, asked, count=False)
        for total, one in zip(result.entrants, entrants, strict=True):
            total.wall += one.wall
            total.cpu += one.cpu
        return replace(result, problems=(*result.problems, *differing(entrants)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "100m"), default="100m")
    parser.add_argument("--images", type=int, default=6, help="images with one question each")
    parser.add_argument("--shared-images", type=int, default=1, help="images with six questions each")
    parser.add_argument("--batches", type=_numbers, default=[1, 6], help="batch sizes of ours, in questions")
    parser.add_argument("--sample", type=int, default=3, help="naive and llava_hf answer each n-th question")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds; 0 only counts operations")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    model, processor = build("llava", options.size)
    checkpoint = prepare(model, processor, FAMILIES["llava"], options.size)
    single = single_pass(model, processor, "cpu")
    measurements = [
        Measurement(checkpoint, single, options, options.images, 1),
        Measurement(checkpoint, single, options, options.shared_images, 6),
    ]
    results = [measurement.counted() for measurement in measurements]
    for number in range(options.rounds + 1):
        if number:
            results = [measurement.timed(one) for measurement, one in zip(measurements, results, strict=True)]
        text = page(results, model, options, (time.perf_counter() - began) / 60)
        print(f"after {number} of {options.rounds} rounds:", *table(results), sep="\n", file=sys.stderr, flush=True)
        if options.write:  # after every round, so that a run that is cut short leaves what it has
            PAGE.write_text(text)
    print(text)
    met = all(kept for result in results for _, kept in verdicts(result))
    return 0 if met and not any(result.problems for result in results) else 1


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
