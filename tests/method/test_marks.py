import pytest

from dualfocus_eval.method.marks import cut_at_marks


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Is it?", ("Is it?",)),
        (" Is it?\n", (" Is it?\n",)),
        ("", ("",)),
        ("<image>\nIs it?", (None, "Is it?")),
        ("Is it?\n<image> ", ("Is it?", None)),
        (" in <image> or\n<image> ?", ("in ", None, " or\n", None, " ?")),
        ("<image>\n<image>", (None, None)),
    ],
)
def test_a_text_is_cut_at_its_marks(text: str, pieces: tuple[str | None, ...]) -> None:
    assert cut_at_marks(text) == pieces
