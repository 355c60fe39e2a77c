"""Ways to look again that a server can do, and those that it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.engines.local import LocalEngine
from dualfocus_eval.harness.fitting import fitting_settings
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import GroundingInput
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import Settings
from tests.engines.server.conftest import EMBEDDED, Connect
from tests.server_double import ABILITIES, ServerDouble, serving

TILES = Settings(grounding="tiles", tiles="2x2", strategy="micro")


def questions() -> Iterator[Question]:
    for number, turn in enumerate((0, 90, 180)):
        image = Image.linear_gradient("L").convert("RGB").rotate(turn).resize((90, 60))
        yield Question(f"q{number}", "What is on the box?", "What is on the box?", (Picture(image),))


def test_tiles_are_the_same_as_in_process(served: str, connected: Connect, in_process: LocalEngine) -> None:
    inputs = [GroundingInput(question) for question in questions()]
    engine = connected(served)
    assert fitting_settings(TILES, engine) == (TILES, ())
    found, expected = (GROUNDING["tiles"].regions(inputs, one, TILES) for one in (engine, in_process))
    assert found == expected


def test_a_server_that_cannot_score_is_refused(connected: Connect) -> None:
    plain = ABILITIES - {"allowed_token_ids", "prompt_logprobs"}
    with serving(ServerDouble(Path(EMBEDDED), abilities=plain).app) as address:
        engine = connected(address)
        assert not engine.can_score
        with pytest.raises(UserError, match=r"^grounding=tiles: .* this server cannot score given texts;"):
            fitting_settings(TILES, engine)


def test_a_fifth_patch_is_refused(served: str, connected: Connect) -> None:
    with pytest.raises(UserError, match=r"^second_pass=fifth_patch: a server takes whole images only;"):
        fitting_settings(Settings(second_pass="fifth_patch"), connected(served))
