"""Pictures of every page at 1280 and 390 px, light and dark: ``make screenshots``.

Starts a box of its own, makes the first account, launches a short demo run, waits for its
evaluation, and writes into .screenshots/ (ignored by git). For looking at; it judges nothing but
that no page scrolls sideways.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import BrowserContext, Page

from tests.browser.box import EMAIL, PASSWORD, Box, browser, chromium, running_box

TARGET = Path(".screenshots")
WIDTHS = {1280: 900, 390: 844}
SECTIONS = ("examples", "tokens", "repeats", "splits", "versions", "repairs", "columns")
PAGES = {
    "queue": "/",
    "datasets": "/datasets",
    "new-run": "/runs/new",
    "runs": "/runs",
    "models": "/models",
    "team": "/team",
    "account": "/account",
    "compare": "/compare",
    "sweeps": "/sweeps",
}


def enter(page: Page, box: Box) -> None:
    """Make the first account through the one-time link."""
    page.goto(box.welcome)
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("E-mail").fill(EMAIL)
    page.locator("input[type=password]").first.fill(PASSWORD)
    for again in page.locator("input[type=password]").all()[1:]:
        again.fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{box.url}/")


def launch(page: Page, box: Box) -> str:
    """Launch a short run of the demo and wait until it is evaluated; return its address."""
    page.goto(f"{box.url}/datasets")
    page.get_by_text("clean", exact=True).first.wait_for(timeout=60_000)
    page.goto(f"{box.url}/runs/new")
    page.locator("details.settings > summary").click()
    page.locator("[name='training.max_steps']").fill("60")
    page.get_by_role("button", name="Add to queue").last.click()
    page.wait_for_url("**/runs/run_*")
    page.get_by_text("Exact match").first.wait_for(timeout=300_000)
    return page.url


def shoot(context: BrowserContext, addresses: dict[str, str], suffix: str) -> list[str]:
    """Take a picture of each address; return those that scroll sideways."""
    page = context.new_page()
    wide: list[str] = []
    for name, address in addresses.items():
        page.goto(address)
        page.wait_for_timeout(800)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(f"{name}-{suffix}")
        page.screenshot(path=TARGET / f"{name}-{suffix}.png", full_page=True)
    page.close()
    return wide


def main() -> None:
    """Take all pictures; exit with 1 if a page scrolls sideways."""
    if chromium() is None:
        raise SystemExit("No Chromium was found. Install it, then try again.")
    TARGET.mkdir(exist_ok=True)
    wide: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running_box(Path(folder)) as box,
        browser() as chrome,
    ):
        first = chrome.new_context()
        page = first.new_page()
        enter(page, box)
        addresses = {name: box.url + path for name, path in PAGES.items()}
        addresses["run"] = launch(page, box)
        page.goto(f"{box.url}/datasets")
        for place, name in enumerate(("dataset-clean", "dataset-problems")):
            link = page.locator("table a.medium").nth(place).get_attribute("href")
            addresses[name] = f"{box.url}{link}"
        for section in SECTIONS:
            addresses[f"dataset-{section}"] = f"{addresses['dataset-problems']}/{section}"
        state = first.storage_state()
        for width, height in WIDTHS.items():
            for theme in ("light", "dark"):
                context = chrome.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme=theme,
                    storage_state=state,
                )
                wide += shoot(context, addresses, f"{width}-{theme}")
                context.close()
    print(f"{len(list(TARGET.glob('*.png')))} pictures in {TARGET}/")
    if wide:
        print("These scroll sideways: " + ", ".join(wide))
        sys.exit(1)


if __name__ == "__main__":
    main()
