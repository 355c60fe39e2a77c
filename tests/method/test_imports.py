import subprocess
import sys


def test_the_method_needs_neither_torch_nor_lmms_eval() -> None:
    code = (
        "import sys, dualfocus_eval.method.pipeline, dualfocus_eval.method.images\n"
        "print(sorted({'torch', 'transformers', 'lmms_eval'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
