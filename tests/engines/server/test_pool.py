"""Which of several servers answers: the same one for an image, and another only while that one is out."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.pool import ServerPool
from dualfocus_eval.engines.server.server import Server

CONFIG = ServerConfig(base_url=",".join(f"http://node{number}:8000" for number in range(5)))
SERVERS = tuple(Server(address, CONFIG) for address in CONFIG.base_url)
POOL = ServerPool(SERVERS, CONFIG)

keys = st.lists(st.text(), min_size=1, max_size=30)


def chosen(images: list[str], out: set[int]) -> list[str]:
    for number, server in enumerate(SERVERS):
        server.out_until = math.inf if number in out else None
    return [POOL._server(image).address for image in images]


@given(keys, st.sets(st.integers(0, 4), max_size=4))
def test_only_the_questions_of_servers_that_are_out_move(images: list[str], out: set[int]) -> None:
    lost = {SERVERS[number].address for number in out}
    before, after = chosen(images, set()), chosen(images, out)
    assert lost.isdisjoint(after)
    assert [now for now, then in zip(after, before, strict=True) if then not in lost] == [
        then for then in before if then not in lost
    ]
    assert chosen(images, set()) == before


@given(keys)
def test_with_all_out_every_server_is_tried_by_its_own_questions(images: list[str]) -> None:
    assert chosen(images, {0, 1, 2, 3, 4}) == chosen(images, set())


def test_images_are_spread_evenly() -> None:
    found = chosen([f"image {number}" for number in range(2000)], set())
    shares = [found.count(server.address) for server in SERVERS]
    assert min(shares) > 330
    assert max(shares) < 470
