"""When two names of objects may mean the same kind of thing: head nouns, plurals, synsets, people.

The paper's filter is strict ("person's shirt" with several people, section 3.2), so in doubt two names agree: a sample
lost costs little, an ambiguous one teaches a wrong box.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Kind", "head_nouns", "is_plural", "kind_of", "stem", "words"]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*['’]?")  # noqa: RUF001
_POSSESSIVE = re.compile(r"['’]s?$")  # noqa: RUF001
_PARTS = re.compile(r"\sand\s|[,/&+;]")
_PREPOSITIONS = frozenset({
    "about", "above", "across", "against", "along", "around", "at", "behind", "below", "beneath", "beside",
    "between", "by", "during", "for", "from", "in", "inside", "into", "near", "next", "of", "off", "on", "onto",
    "outside", "over", "through", "to", "toward", "towards", "under", "underneath", "up", "upon", "with", "without",
})  # fmt: skip
_AMOUNTS = frozenset({
    "bit", "bouquet", "bowl", "bunch", "bundle", "chunk", "cluster", "collection", "couple", "crowd", "flock",
    "group", "handful", "herd", "jar", "kind", "line", "lot", "number", "pack", "pair", "part", "piece", "pile",
    "pod", "row", "school", "section", "set", "slice", "stack", "team", "type", "variety",
})  # fmt: skip
"""``a pair of X`` is about X, where ``the leg of X`` is about a leg."""

_IRREGULAR = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot", "teeth": "tooth",
    "geese": "goose", "mice": "mouse", "oxen": "ox", "dice": "die",
}  # fmt: skip
_SINGULAR_IN_S = frozenset({
    "gas", "lens", "canvas", "tennis", "iris", "chassis", "christmas", "atlas", "pelvis", "basis", "mantis",
    "pancreas",
})  # fmt: skip

_ANYBODY = frozenset({"person", "human", "individual", "pedestrian", "somebody", "someone"})
_PEOPLE = frozenset({
    "baby", "batter", "biker", "boarder", "boy", "bride", "catcher", "child", "crowd", "cyclist", "dude", "female",
    "gentleman", "girl", "groom", "guy", "kid", "lady", "male", "man", "motorcyclist", "officer", "passenger",
    "player", "rider", "skateboarder", "skater", "skier", "snowboarder", "spectator", "surfer", "teenager",
    "toddler", "umpire", "woman", "worker",
})  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Two objects may be of one kind when a key of ``listed`` of one is a key of ``sought`` of the other."""

    listed: frozenset[str]
    """Keys under which an object is found."""
    sought: frozenset[str]
    """Keys under which others of its kind are looked for."""


@lru_cache(maxsize=1 << 18)
def kind_of(names: tuple[str, ...], synsets: tuple[str, ...]) -> Kind:
    """By the head nouns of its names, in singular or plural, and by its synsets.

    Anybody ("person", "someone") may be any of the people, and the other way round; a man is not a woman.
    """
    heads = {head for name in names for head in head_nouns(name)}
    own = {f"noun {head}" for head in heads} | {f"synset {synset}" for synset in synsets}
    listed, sought = set(own), set(own)
    if heads & _ANYBODY_STEMS:
        listed |= {"anybody", "people"}
        sought.add("people")
    elif heads & _PEOPLE_STEMS:
        listed.add("people")
        sought.add("anybody")
    return Kind(frozenset(listed), frozenset(sought))


@lru_cache(maxsize=1 << 18)
def head_nouns(name: str) -> frozenset[str]:
    """Stems of what a noun phrase is about: its last word before a preposition, of each part of an enumeration."""
    return frozenset(stem(word) for word in _head_words(name))


@lru_cache(maxsize=1 << 16)
def is_plural(name: str) -> bool:
    """Whether a name means several objects: by the form of its head noun, or because it lists several."""
    heads = _head_words(name)
    return len(heads) > 1 or any(_plural_word(word) for word in heads)


def words(text: str) -> list[str]:
    """Its words, lower-cased, without possessive endings."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return [_POSSESSIVE.sub("", word) for word in _WORD.findall(plain)]


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A form that singular and plural of a noun share; not always a word itself."""
    if word in _IRREGULAR:
        word = _IRREGULAR[word]
    elif word.endswith("men") and len(word) > 4:
        word = word[:-2] + "an"
    elif word.endswith("children"):
        word = word[:-3]
    elif _regular_plural(word):
        word = word[:-1]
    if word.endswith("ie") and len(word) > 2:
        return word[:-2] + "y"
    if word.endswith("ve"):
        return word[:-2] + "f"
    if word.endswith("fe"):
        return word[:-1]
    # "boxes" less its s is "boxe", "horses" less its s is "horse": only without the e do both meet their singular.
    if word.endswith(("se", "xe", "ze", "che", "she", "oe")) and len(word) > 3:
        return word[:-1]
    return word


def _plural_word(word: str) -> bool:
    men = word.endswith("men") and len(word) > 4 and word not in _SINGULAR_IN_MEN
    return word in _IRREGULAR or men or word.endswith("children") or _regular_plural(word)


def _regular_plural(word: str) -> bool:
    return len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us")) and word not in _SINGULAR_IN_S


def _head_words(name: str) -> list[str]:
    parts = (_head_word(words(part)) for part in _PARTS.split(name.casefold()))
    return [word for word in parts if word]


def _head_word(phrase: list[str]) -> str:
    for place, word in enumerate(phrase):
        if word in _PREPOSITIONS and place:
            rest = phrase[place + 1 :]
            if word == "of" and stem(phrase[place - 1]) in _AMOUNTS_STEMS and rest:
                return _head_word(rest)
            phrase = phrase[:place]
            break
    named = [word for word in phrase if not word.isdecimal()] or phrase
    return named[-1] if named else ""


def _stems(given: Iterable[str]) -> frozenset[str]:
    return frozenset(stem(word) for word in given)


_SINGULAR_IN_MEN = frozenset({"abdomen", "specimen", "omen", "semen", "ramen", "stamen"})
_AMOUNTS_STEMS, _ANYBODY_STEMS, _PEOPLE_STEMS = _stems(_AMOUNTS), _stems(_ANYBODY), _stems(_PEOPLE)
