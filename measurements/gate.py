"""Does the gate let an unchanged run pass, every time?

    python -m measurements.gate              # 20 runs of df_pope_mini --limit 100, one after another

Each run is a process of its own, with a model loaded anew and an empty folder, judged by the committed baseline.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

from dualfocus_eval.common.resources import resource_folder

BASELINE = resource_folder("reports") / "baselines" / "df_pope_mini.json"
DUALFOCUS = (sys.executable, "-m", "dualfocus_eval")


def main() -> int:
    """Print a line per run; the exit status is 0 where all passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="how many runs (default: 20)")
    runs = parser.parse_args().runs
    passed = 0
    for number in range(1, runs + 1):
        status, said = _one_run()
        passed += status == 0
        print(f"run {number}: {said}", flush=True)
    print(f"{passed} of {runs} unchanged runs passed")
    return int(passed < runs)


def _one_run() -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as folder:
        asked = ["--tasks", "df_pope_mini", "--limit", "100", "--batch_size", "16", "--log_samples"]
        answered = _run("eval", *asked, "--output_path", folder)
        if answered.returncode:
            return answered.returncode, f"dualfocus eval ended with status {answered.returncode}:\n{answered.stderr}"
        judged = _run("regress", folder, "--baseline", str(BASELINE))
        lines = [line for line in judged.stdout.splitlines() if line.startswith(("passed", "regression"))]
        return judged.returncode, lines[0] if lines else judged.stderr


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # One thread, as the baselines were made, so that every answer must be theirs.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*DUALFOCUS, *arguments], env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
