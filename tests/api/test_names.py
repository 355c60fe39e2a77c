"""``import dualfocus_eval``: its names, and what it costs."""

import subprocess
import sys

import dualfocus_eval as df


def test_the_import_loads_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import dualfocus_eval\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names), [name for name in sys.modules if 'dualfocus' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dualfocus_eval'] ['dualfocus_eval']"


def test_every_public_name_is_there_and_explained() -> None:
    for name in df.__all__:
        assert getattr(df, name).__doc__
    assert set(df.__all__) <= set(dir(df))
    assert sorted(df.__all__) == sorted(df._HOMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(df, "evaluate")
