"""How often the intervals hold the truth, and how often the test errs, in simulated runs.

    python -m measurements.coverage           # print the table (minutes)
    python -m measurements.coverage --write   # and put it into docs/statistics.md

A simulated run has questions in images; an image's own rate is drawn from a beta distribution whose intra-class
correlation is given, so that questions of one image go together. Every line is of 2,000 runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualfocus_eval.analysis.intervals import Estimate, Floats, bootstrap, mean_difference, rate
from dualfocus_eval.analysis.paired_tests import mcnemar
from dualfocus_eval.common.tables import fill_page

__all__ = ["Population", "covered", "rejected"]

RUNS = 2_000
PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
RATES = (0.2, 0.5, 0.9)


@dataclass(frozen=True)
class Population:
    """Where simulated runs come from."""

    rate: float
    images: int
    per_image: int
    """Most questions of an image; each has 1 to so many, all equally often."""
    correlation: float
    """Between the answers to two questions of one image."""

    def draw(self, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
        """Scores, and the image of each."""
        clusters = self._clusters(rng)
        return (rng.random(len(clusters)) < self._rates(rng)[clusters]).astype(float), clusters

    def draw_pair(self, rng: np.random.Generator) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Two equally good answers to each question; they differ in one image of three, and there go together."""
        clusters, first, second = self._clusters(rng), self._rates(rng), self._rates(rng)
        second = np.where(rng.random(self.images) < 1 / 3, second, first)
        luck = rng.random(len(clusters))
        return (luck < first[clusters]).astype(float), (luck < second[clusters]).astype(float), clusters

    def _clusters(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return np.repeat(np.arange(self.images), rng.integers(1, self.per_image + 1, self.images))

    def _rates(self, rng: np.random.Generator) -> Floats:
        if not self.correlation:
            return np.full(self.images, self.rate)
        weight = 1 / self.correlation - 1
        return rng.beta(self.rate * weight, (1 - self.rate) * weight, self.images)


Method = Callable[[Population, np.random.Generator], tuple[Estimate, float]]
"""An interval from one simulated run, and the truth that it should hold."""


def rate_of(population: Population, rng: np.random.Generator) -> tuple[Estimate, float]:
    """The interval of a rate."""
    return rate(*population.draw(rng)), population.rate


def difference_of(population: Population, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Student's interval of a paired difference."""
    return mean_difference(*population.draw_pair(rng)), 0.0


def bootstrap_of(population: Population, rng: np.random.Generator) -> tuple[Estimate, float]:
    """The bootstrap interval of a paired difference."""
    before, after, clusters = population.draw_pair(rng)
    columns = np.column_stack([after - before, np.ones_like(before)])
    seed = int(rng.integers(2**32))
    return bootstrap(columns, clusters, lambda sums: sums[..., 0] / sums[..., 1], resamples=1_000, seed=seed), 0.0


def covered(method: Method, population: Population, runs: int = RUNS, seed: int = 0) -> float:
    """The share of simulated runs whose interval holds the truth."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(runs):
        estimate, truth = method(population, rng)
        hits += estimate.low <= truth <= estimate.high
    return hits / runs


def rejected(population: Population, runs: int = RUNS, seed: int = 0) -> float:
    """The share of simulated runs, none of which is worse, that McNemar's test calls worse at 5%."""
    rng = np.random.default_rng(seed)
    return sum(mcnemar(*population.draw_pair(rng)).p_worse <= 0.05 for _ in range(runs)) / runs


def main() -> None:
    """Print the table; with ``--write`` fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    chosen = parser.parse_args()
    lines = []
    for line in _table():
        print(line, flush=True)
        lines.append(line)
    if chosen.write:
        fill_page(PAGE, {"coverage": "\n".join(lines)})


def _table() -> Iterator[str]:
    rates = " | ".join(f"rate {rate}" for rate in RATES)
    yield f"| covered, % | images | questions per image | correlation | {rates} |"
    yield "|---|---:|---:|---:|" + "---:|" * len(RATES)
    shapes = [(1, 0.0), (6, 0.0), (6, 0.3), (6, 0.8)]
    for name, method, sizes in (
        ("rate", rate_of, (500, 2_000, 100, 20, 5)),
        ("difference, Student", difference_of, (500, 100, 20)),
        ("difference, bootstrap", bootstrap_of, (500, 100, 20)),
    ):
        for images in sizes:
            for per_image, correlation in shapes if method is rate_of else shapes[2:]:
                cells = (covered(method, Population(rate, images, per_image, correlation)) for rate in RATES)
                yield _line(name, images, per_image, correlation, cells)
    for images in (500, 100, 20):
        cells = (rejected(Population(rate, images, 6, 0.3)) for rate in RATES)
        yield _line("called worse at 5%, McNemar", images, 6, 0.3, cells)


def _line(name: str, images: int, per_image: int, correlation: float, cells: Iterator[float]) -> str:
    questions = "1" if per_image == 1 else f"1 to {per_image}"
    return (
        f"| {name} | {images:,} | {questions} | {correlation} | " + " | ".join(f"{100 * c:.1f}" for c in cells) + " |"
    )


if __name__ == "__main__":
    main()
