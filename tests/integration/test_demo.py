"""``dualfocus demo`` as a user runs it, and that one run shows what separate runs of each pathway would."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dualfocus_eval.analysis.choices import Choice, scores_of
from dualfocus_eval.analysis.reading import read_run
from tests.integration.conftest import BIN, Run

LIMIT = ["--limit", "4", "--batch_size", "4"]


def test_one_run_holds_what_runs_of_each_pathway_answer(
    run_here: Run, environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- scores -->\n<!-- end of scores -->\n<!-- run -->\n<!-- end of run -->\n")
    demo = subprocess.run(
        [
            str(BIN / "dualfocus"), "demo", "--model_args", f"pretrained={checkpoint}", "--markdown", str(page),
            "--output_path", str(tmp_path / "output"), *LIMIT,
        ],
        cwd=tmp_path / "working", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=900,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout
    shown = read_run(tmp_path / "output")
    rows = shown.answers
    assert len(rows) == 11 * 4
    assert rows["micro_text"].notna().sum() > 20

    pathways: tuple[Choice, ...] = ("macro", "micro")
    for pathway in pathways:
        settings = f"pretrained={checkpoint},strategy={pathway}"
        alone = run_here("--model_args", settings, "--tasks", "df_mini", *LIMIT, output=pathway)
        expected = {place: (text, alone.samples[place]["score"]) for place, text in alone.answers.items()}
        texts = rows["micro_text"].fillna(rows["macro_text"]) if pathway == "micro" else rows["macro_text"]
        answers = zip(texts.str.strip(), scores_of(rows, pathway), strict=True)
        found = dict(zip(zip(rows["task"], rows["doc_id"], strict=True), answers, strict=True))
        assert found == expected

    for heading in ("Scores", "Differences", "Boxes of detail questions", "oracle", "wall time"):
        assert heading in demo.stdout
    assert "| details |" in page.read_text()
    assert "| wall time |" in page.read_text()
    report = tmp_path / "output" / "report"
    assert "df_seed_img_mini" in (report / "index.html").read_text()
    assert list((tmp_path / "working").iterdir()) == []
