"""A made-up Visual Genome of any size: annotations with the release's layout and densities, and no pixels.

Per image about 35 objects, 50 regions and 15.7 questions, as published; names are unevenly frequent with a long tail,
a third of them in the plural or with an adjective; 55% of the questions refer to objects (v1.2's layout), two in five
are mapped to a region, and a few per cent have the faults that the filter looks for. Deterministic in the seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO

IMAGES, QUESTIONS = 108_077, 1_700_000
"""Of the real release."""

_NOUNS = (
    "man", "woman", "tree", "window", "shirt", "building", "wall", "person", "sign", "sky", "ground", "grass", "table",
    "light", "fence", "car", "plate", "chair", "leaf", "hair", "train", "head", "water", "street", "cloud", "hand",
    "door", "road", "line", "wheel", "snow", "floor", "hat", "pole", "shadow", "flower", "bench", "bag", "jacket",
    "boy", "girl", "dog", "cat", "horse", "glass", "bus", "box", "shoe", "umbrella", "boat", "clock", "bottle",
)  # fmt: skip
_IRREGULAR = {"man": "men", "woman": "women", "leaf": "leaves", "person": "people"}
_ADJECTIVES = ("red", "blue", "white", "black", "wooden", "large", "small", "old", "green", "metal")
_ASKED = (
    "What color is the {}?",
    "Where is the {}?",
    "What is on the {}?",
    "How many {} are there?",
    "Who has the {}?",
)
_ANSWERS = ("Red.", "On the left.", "White and blue.", "A man.", "Two.", "In the background.", "During the day.")
TAIL = 12_000
"""Rare nouns."""
KINDS = 25
"""Nouns that an image draws its objects from."""


class _Names:
    """Draws names, the n-th noun about 1/n times as often as the first."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        syllables = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu")
        tail = ["".join(syllables[int(digit)] for digit in f"{number:05}") for number in range(TAIL)]
        self.nouns = (*_NOUNS, *tail)
        self.weights = list(accumulate(1 / (place + 8) for place in range(len(self.nouns))))

    def draw(self, count: int, kinds: int) -> list[tuple[str, str]]:
        """(name, noun) pairs of not more than so many kinds: an image shows the same things several times."""
        drawn = self.rng.choices(self.nouns, cum_weights=self.weights, k=kinds)
        nouns = self.rng.choices(drawn, k=count)
        return [(self._form(noun), noun) for noun in nouns]

    def _form(self, noun: str) -> str:
        draw = self.rng.random()
        if draw < 0.15:
            return _IRREGULAR.get(noun, f"{noun}es" if noun.endswith(("s", "x", "sh", "ch")) else f"{noun}s")
        return f"{self.rng.choice(_ADJECTIVES)} {noun}" if draw < 0.3 else noun


def write_release(folder: Path, images: int, seed: int = 0, on_image: Callable[[], object] = lambda: None) -> int:
    """Write the five files of ``images`` images, one image at a time; how many questions they have."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("image_data", "objects", "region_descriptions", "question_answers")
    files = {name: (folder / f"{name}.json").open("w", encoding="utf-8") for name in names}
    mapping = (folder / "qa_to_region_mapping.json").open("w", encoding="utf-8")
    writer = _Writer(files, mapping, random.Random(f"visual genome/{seed}"))
    for number in range(images):
        writer.image(number, number == images - 1)
        on_image()
    for file in (*files.values(), mapping):
        file.close()
    return writer.questions


class _Writer:
    """Formats records itself: building them for a JSON encoder takes several times as long."""

    def __init__(self, files: dict[str, IO[str]], mapping: IO[str], rng: random.Random) -> None:
        self.files, self.mapping, self.rng, self.names = files, mapping, rng, _Names(rng)
        self.objects = self.regions = self.questions = self.mapped = 0

    def image(self, number: int, last: bool) -> None:
        draw, image_id = self.rng.random, number + 1
        width, height = self.rng.choice(((800, 600), (500, 375), (375, 500), (1024, 768), (640, 480)))
        part = "VG_100K_2" if number % 2 else "VG_100K"
        objects = [
            f'{{"synsets": ["{noun}.n.01"], "h": {h}, "object_id": {self.objects + place}, "merged_object_ids": [], '
            f'"names": ["{name}"], "w": {w}, "y": {y}, "x": {x}}}'
            for place, (name, noun), (x, y, w, h) in zip(
                range(1, 200), self.names.draw(10 + int(draw() * 51), KINDS), self._boxes(width, height), strict=False
            )
        ]
        self.objects += len(objects)
        first_region = self.regions
        regions = [
            f'{{"region_id": {first_region + place}, "width": {w}, "height": {h}, "image_id": {image_id}, '
            f'"phrase": "the {name} is near the {noun} in the picture", "y": {y}, "x": {x}}}'
            for place, (name, noun), (x, y, w, h) in zip(
                range(1, 200), self.names.draw(30 + int(draw() * 41), KINDS), self._boxes(width, height), strict=False
            )
        ]
        self.regions += len(regions)
        address = f"https://images.example/{part}/{image_id}.jpg"
        questions = [
            self._question(image_id, objects, first_region, len(regions)) for _ in range(9 + int(draw() * 14.5))
        ]
        self._write("image_data", number, last, (
            f'{{"width": {width}, "url": "{address}", "height": {height}, "image_id": {image_id}, '
            f'"coco_id": null, "flickr_id": {4_000_000_000 + number}}}'
        ))  # fmt: skip
        self._write("objects", number, last, (
            f'{{"image_id": {image_id}, "objects": [{", ".join(objects)}], "image_url": "{address}"}}'
        ))  # fmt: skip
        self._write("region_descriptions", number, last, f'{{"regions": [{", ".join(regions)}], "id": {image_id}}}')
        self._write("question_answers", number, last, f'{{"id": {image_id}, "qas": [{", ".join(questions)}]}}')
        if last:
            self.mapping.write("}\n" if self.mapped else "{}\n")

    def _boxes(self, width: int, height: int) -> Sequence[tuple[int, int, int, int]]:
        draw, found = self.rng.random, []
        for _ in range(75):
            w, h = int(width * (0.02 + draw() ** 3 * 0.9)), int(height * (0.02 + draw() ** 3 * 0.9))
            found.append((int(draw() * (width - w)), int(draw() * (height - h)), w, h))
        return found

    def _question(self, image_id: int, objects: Sequence[str], first_region: int, regions: int) -> str:
        self.questions += 1
        draw = self.rng.random
        asked = answered = ""
        if draw() < 0.55:
            asked = ", ".join(self.rng.sample(objects, 1 if draw() < 0.7 else 2))
            answered = self.rng.choice(objects) if draw() < 0.25 else ""
        if draw() < 0.4:
            region = first_region + 1 + int(draw() * regions)
            self.mapping.write(f'{", " if self.mapped else "{"}"{self.questions}": {region}')
            self.mapped += 1
        name = self.names.draw(1, 1)[0][0]
        answer = self.rng.choice(_ANSWERS) if draw() < 0.99 else ""
        return (
            f'{{"a_objects": [{answered}], "question": "{self.rng.choice(_ASKED).format(name)}", '
            f'"image_id": {image_id}, "qa_id": {self.questions}, "answer": "{answer}", "q_objects": [{asked}]}}'
        )

    def _write(self, name: str, number: int, last: bool, text: str) -> None:
        self.files[name].write(f"{', ' if number else '['}{text}{']' if last else ''}")
