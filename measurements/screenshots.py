"""The pictures of README and docs, as Chromium shows the pages of a report.

    python -m measurements.screenshots build/effect/report docs/figures

`make effect` calls it. It needs the development packages and Debian's Chromium.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from measurements.chromium import launched

FIGURES = ("categories_df_seed_img_mini.png",)
"""Of the report's own."""
CHOSEN = {"Task": "df_scenes_mini", "Outcome": "gained"}
"""Words of the inspector's filters: its first card is shown."""
WIDTH, SCALE = 1250, 1.5
"""CSS pixels, and how many pixels of the picture one of them is."""


def main() -> int:
    """Write the pictures; 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, metavar="REPORT", help="the folder that `dualfocus report` wrote")
    parser.add_argument("out", type=Path, metavar="FOLDER", help="where the pictures go")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with _page() as page:
        report(page, chosen.report / "index.html", chosen.out / "report.png")
        card(page, chosen.report / "inspect.html", chosen.out / "answer.png")
    for name in FIGURES:
        shutil.copyfile(chosen.report / "figures" / name, chosen.out / name)
    return 0


def report(page: Page, index: Path, picture: Path) -> None:
    """What a report opens with."""
    page.goto(index.resolve().as_uri())
    page.locator("#result").screenshot(path=picture)


def card(page: Page, inspector: Path, picture: Path) -> None:
    """A question that was gained by looking again: image, box, sub-region, crop, both answers."""
    page.goto(inspector.resolve().as_uri())
    for name, value in CHOSEN.items():
        select = page.get_by_label(name, exact=True)
        select.select_option(label=next(text for text in select.all_inner_texts()[0].split("\n") if value in text))
    first = page.locator(".card").first
    for image in first.locator("img").all():
        image.evaluate("image => image.decode()")
    first.screenshot(path=picture)


@contextmanager
def _page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE)
        browser.close()


if __name__ == "__main__":
    raise SystemExit(main())
