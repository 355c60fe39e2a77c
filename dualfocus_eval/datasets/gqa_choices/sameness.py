"""Whether two answers may both be right of one thing: spelling, number, synonyms, and words of different width.

It errs on the side of yes: a distractor too few costs an option, a second right answer costs the question.
"""

from __future__ import annotations

import functools
import re

__all__ = ["may_both_be_right"]

SYNONYMS = (
    "airplane aeroplane plane jet aircraft", "apartment flat", "asphalt pavement tarmac", "automobile car sedan",
    "baby infant toddler", "backpack rucksack", "bag purse handbag", "bathroom restroom toilet",
    "beige off-white cream-colored", "beige tan cream khaki", "bicycle bike cycle", "big large huge",
    "bin trash-can garbage-can trash-bin", "black dark", "blinds shade curtain drape", "blond blonde",
    "blouse shirt top t-shirt", "boy child kid", "brown tan", "bunny rabbit", "bush shrub hedge", "cap hat",
    "carpet rug mat", "cell-phone cellphone phone mobile-phone smartphone", "ceramic porcelain", "child girl kid",
    "cookie biscuit", "couch sofa loveseat", "counter countertop", "cup mug", "cupboard cabinet", "desk table",
    "dish plate", "dog puppy", "doughnut donut", "fall autumn", "faucet tap", "field pasture meadow grass lawn",
    "forest woods trees", "glasses eyeglasses spectacles", "gray grey silver", "ground floor",
    "happy smiling cheerful", "hill hillside slope", "house home building", "ivory white", "jacket coat",
    "jeans pants trousers", "kitten cat", "lady woman", "laptop computer notebook", "little small tiny",
    "luggage suitcase", "man guy gentleman", "maroon burgundy dark-red", "metal steel iron aluminum chrome",
    "motorbike motorcycle bike", "mountain hill", "ocean sea water", "old elderly", "oven stove",
    "photo photograph picture image", "pink rose", "pot pan", "purple violet lavender", "refrigerator fridge",
    "river stream creek", "road street roadway lane", "rock stone boulder", "round circular", "shoes sneakers",
    "sidewalk walkway path", "skinny thin slim", "store shop", "sunny clear", "sweater sweatshirt jumper pullover",
    "teal turquoise", "television tv tv-set", "thick fat", "tie necktie", "truck pickup lorry", "wood wooden",
    "yard lawn garden",
)  # fmt: skip
"""Each entry: words of which more than one may be right. Hyphens stand for blanks."""

WIDER = {
    "adult": "man woman lady guy gentleman",
    "animal": "dog cat horse cow sheep bird bear elephant giraffe zebra lion tiger duck goose goat pig monkey deer",
    "appliance": "refrigerator oven stove microwave toaster dishwasher blender",
    "athlete": "player skater skier surfer snowboarder skateboarder",
    "bird": "duck goose swan pigeon parrot owl eagle seagull penguin chicken flamingo peacock ostrich",
    "clothing": "shirt dress pants jeans jacket coat sweater hat shorts skirt shoe sock glove suit",
    "dessert": "cake pie cookie donut brownie muffin cupcake",
    "device": "laptop computer television phone monitor keyboard camera",
    "flower": "rose tulip daisy lily orchid sunflower",
    "food": "pizza sandwich burger cake bread fruit vegetable meat rice pasta salad soup dessert",
    "footwear": "shoe boot sandal sneakers heel",
    "fruit": "apple banana orange lemon lime grape pear peach strawberry pineapple mango melon kiwi",
    "furniture": "chair couch table desk bed cabinet shelf dresser bench stool nightstand bookcase ottoman",
    "meat": "beef chicken pork ham bacon sausage turkey steak",
    "person": "man woman boy girl child baby lady guy player skater surfer skier worker driver chef waiter "
    "customer officer pedestrian athlete adult",
    "plant": "tree bush flower grass fern ivy cactus",
    "structure": "building house tower bridge church barn",
    "utensil": "fork knife spoon spatula ladle whisk",
    "vegetable": "carrot broccoli tomato potato onion pepper lettuce cucumber spinach celery corn mushroom",
    "vehicle": "car truck bus van motorcycle bicycle train boat airplane scooter taxi tractor",
}
"""Words that are right wherever one of the others is."""

IRREGULAR = {
    "children": "child",
    "feet": "foot",
    "geese": "goose",
    "men": "man",
    "mice": "mouse",
    "people": "person",
    "teeth": "tooth",
    "women": "woman",
}
ARTICLES = frozenset({"a", "an", "the"})


def may_both_be_right(first: str, second: str) -> bool:
    """Whether two answers are one, are synonyms, or one names the same more generally (``bear`` and ``teddy bear``)."""
    short, long = sorted((_words(first), _words(second)), key=len)
    tail = long[len(long) - len(short) :]
    return _overlap(short, long) or (len(short) < len(long) and _overlap(short, tail))


def _overlap(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    ours, theirs = _meanings(first), _meanings(second)
    return bool(ours & theirs) or _is_wider(ours, theirs) or _is_wider(theirs, ours)


def _is_wider(general: frozenset[str], specific: frozenset[str]) -> bool:
    return any(specific & _wider_index()[word] for word in general & _wider_index().keys())


def _words(answer: str) -> tuple[str, ...]:
    words = tuple(re.findall(r"\w+", answer.casefold()))
    return tuple(word for word in words if word not in ARTICLES) or words or (answer.strip().casefold(),)


@functools.lru_cache(maxsize=65536)
def _meanings(words: tuple[str, ...]) -> frozenset[str]:
    """Spellings without number and blanks, and the synonym sets they belong to."""
    spellings = _spellings(words)
    return spellings.union(*(_synonym_index().get(spelling, frozenset()) for spelling in spellings))


@functools.lru_cache(maxsize=65536)
def _spellings(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset("".join(words[:-1]) + last for last in _singulars(words[-1]))


def _singulars(word: str) -> set[str]:
    """The word, and what it may be the plural of; too many rather than too few."""
    forms = {word, IRREGULAR.get(word, word)}
    for ending, replacements in (("ies", ("y",)), ("ves", ("f", "fe")), ("es", ("",)), ("s", ("",))):
        if word.endswith(ending) and not word.endswith("ss") and len(word) > len(ending) + 1:
            forms.update(word.removesuffix(ending) + replacement for replacement in replacements)
    return forms


@functools.lru_cache(maxsize=1)
def _synonym_index() -> dict[str, frozenset[str]]:
    index: dict[str, set[str]] = {}
    for number, entry in enumerate(SYNONYMS):
        for phrase in entry.split():
            for spelling in _spellings(tuple(phrase.split("-"))):
                index.setdefault(spelling, set()).add(f"#{number}")
    return {spelling: frozenset(sets) for spelling, sets in index.items()}


@functools.lru_cache(maxsize=1)
def _wider_index() -> dict[str, frozenset[str]]:
    return {
        general: frozenset().union(*(_spellings((word,)) for word in specifics.split()))
        for general, specifics in WIDER.items()
    }
