"""Phrases that name what a question is about, by rule, for detectors that look for what a text names.

A phrase is the longest run of words that are none of: words that only ask, join or point (`_FUNCTION_WORDS`), words for
the image itself and for what a question wants to know of a thing (`_ASKED_WORDS`: its colour, its number), common verbs
(`_VERBS`), and forms in -ing but for the names of things (`_NAMES_IN_ING`). "What color is the small car next to the
woman holding an umbrella?" has the phrases "small car", "woman" and "umbrella". The rule knows English only.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

__all__ = ["phrases_of"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*|[^\sa-z0-9]")

_FUNCTION_WORDS = _words(
    """
    a an the this that these those such some any all each every both either neither no not none other another same
    what which who whom whose when where why how is are was were be been being am do does did done has have had having
    can could will would shall should may might must there here it its it's they them their theirs he him his she her
    hers we us our you your i me my one ones someone somebody something anyone anything everyone everything nothing
    of in on at by to from with without within into onto over under above below behind beside besides between among
    across along around near next off out up down through toward towards against about for as than like per via inside
    outside front back left right top bottom upper lower middle center centre and or nor but if then so because while
    also too very more most less least many much few several only just still yet ever never please yes no s t
    """
)
_ASKED_WORDS = _words(
    """
    image images picture pictures photo photos photograph photographs scene figure part region area
    color colors colour colours number numbers amount count kind kinds type types sort shape size material pattern
    name brand side sides position location direction word words letter letters answer question
    visible present located shown depicted pictured true false following possible best correct
    """
)
_VERBS = _words(
    """
    say says said read reads written write see seen look looks show shows wear wears worn hold holds held carry carries
    stand stands sit sits lie lies hang hangs ride rides eat eats drink drinks play plays use uses used make makes made
    put puts contain contains appear appears describe identify tell find get gets go goes come comes take takes give
    gives want wants need needs call called know belong belongs cover covers covered happen happens
    """
)
_NAMELESS = _FUNCTION_WORDS | _ASKED_WORDS | _VERBS
_NAMES_IN_ING = _words(
    """
    awning building ceiling clothing cutting-board dressing duckling earring icing king lightning lighting painting
    parking pudding railing ring siding sling spring string swing thing wing wiring wrapping
    """
)


def phrases_of(stem: str) -> tuple[str, ...]:
    """The phrases of a bare question in their order, in lower case and without accents, each once; perhaps none."""
    plain = unicodedata.normalize("NFKD", stem.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    words = _WORD.findall("".join(letter for letter in plain if not unicodedata.combining(letter)).lower())
    runs = itertools.groupby((word.removesuffix("'s") for word in words), key=_names_something)
    return tuple(dict.fromkeys(" ".join(run) for names, run in runs if names))


def _names_something(word: str) -> bool:
    if not (word.isascii() and word[:1].isalnum()) or word in _NAMELESS:
        return False
    return not word.endswith("ing") or word in _NAMES_IN_ING
