"""A newcomer's way through the whole product, in a real browser on a real box.

Knows roles, labels and texts only; nothing is patched. One box serves all tests of this file.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.box import Box, chromium, running_box
from tests.browser.screenshots import PAGES, SECTIONS, enter

AXE = Path("web/node_modules/axe-core/axe.min.js")
expect.set_options(timeout=60_000)  # two cores, busy with other tests
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SLOW = 300_000  # ms: a training on two busy cores

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with running_box(tmp_path_factory.mktemp("box")) as running:
        yield running


@pytest.fixture(scope="module")
def page(box: Box, chrome: Browser) -> Page:
    """A browser that has made the first account, with the demo dataset checked."""
    page = chrome.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    enter(page, box)
    page.goto(f"{box.url}/datasets")
    page.get_by_text("clean", exact=True).first.wait_for()
    return page


def launch(page: Page, box: Box, *, name: str, rate: str) -> str:
    """Launch a short run of the demo from the form; return its address."""
    page.goto(f"{box.url}/runs/new")
    page.get_by_role("textbox", name="Name").fill(name)
    page.locator("details.settings > summary").click()
    page.locator("[name='training.max_steps']").fill("40")
    page.locator("[name='training.max_steps']").press("Tab")
    expect(page.get_by_text("1 change from")).to_be_visible()
    page.get_by_label("Learning rate").fill(rate)
    page.get_by_label("Learning rate").press("Tab")
    expect(page.get_by_text("2 changes from")).to_be_visible()
    page.get_by_role("button", name="Add to queue").last.click()
    page.wait_for_url("**/runs/run_*")
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    return page.url


def watch_to_the_end(page: Page) -> None:
    """Stay on the run's page, without a reload, until its evaluation is there."""
    expect(page.get_by_text("Succeeded").first).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("cell", name="Exact match").first).to_be_visible(timeout=SLOW)


def test_a_newcomer_launches_watches_evaluates_and_compares(page: Page, box: Box) -> None:
    """Uses the demo: two runs with different learning rates, then the comparison."""
    first = launch(page, box, name="first", rate="5e-3")
    watch_to_the_end(page)
    assert page.locator(".uplot canvas").count() >= 1
    curve = f"{box.url}/api/v1/runs/{first.rsplit('/', 1)[1]}/metrics?names=train/loss"
    series = page.request.get(curve).json()["series"]
    assert series["train/loss"]["step"] == list(range(1, 41))
    second = launch(page, box, name="second", rate="2e-4")
    watch_to_the_end(page)
    ids = ",".join(address.rsplit("/", 1)[1] for address in (first, second))
    page.goto(f"{box.url}/compare?runs={ids}")
    expect(page.get_by_text("training.learning_rate")).to_be_visible()
    expect(page.get_by_text("Exact match").first).to_be_visible()
    page.goto(f"{box.url}/runs")
    expect(page.get_by_role("link", name="second").first).to_be_visible()


TABLE = "question,answer\n" + "".join(
    f'Where is order {number}?,"Order {number} has left, {number} days ago."\n'
    for number in range(40)
)


def test_a_table_with_other_columns_becomes_a_dataset_that_is_understood(
    page: Page, box: Box
) -> None:
    """Uploads a CSV, names its columns, drops a copy, counts tokens, splits it for a run."""
    page.goto(f"{box.url}/datasets")
    content = (TABLE + TABLE.splitlines()[1] + "\n").encode()
    page.locator("input[type=file]").first.set_input_files(
        [{"name": "orders.csv", "mimeType": "text/csv", "buffer": content}]
    )
    page.get_by_role("link", name="orders").first.click()
    expect(page.get_by_text("missing_messages").first).to_be_visible()

    page.get_by_role("link", name="Columns…").click()
    page.get_by_label("What are the rows?").select_option("prompt_completion")
    expect(page.get_by_label("prompt")).to_have_value("question")
    expect(page.get_by_label("completion")).to_have_value("answer")
    page.get_by_role("button", name="Check the rows again").click()
    expect(page.get_by_text("duplicate_row").first).to_be_visible()

    page.get_by_role("link", name="Repairs…").click()
    page.get_by_label("Drop exact copies").check()
    page.get_by_role("button", name="Show what changes").click()
    expect(page.get_by_text("the row is left out")).to_be_visible()
    page.get_by_role("button", name="Save as v2").click()
    expect(page.get_by_text("No problem in any line.")).to_be_visible()

    page.get_by_role("link", name="Tokens").click()
    page.get_by_role("button", name="Count tokens").click()
    expect(page.get_by_text("Tokens an epoch")).to_be_visible()
    expect(page.locator(".tok.on").nth(3)).to_be_visible()

    page.get_by_role("link", name="Splits").click()
    page.get_by_label("Share held out").fill("0.2")
    page.get_by_role("button", name="Keep this split").click()
    expect(page.get_by_text("validation 8")).to_be_visible()
    page.get_by_role("link", name="New run", exact=True).last.click()
    page.wait_for_url("**/runs/new?**")
    expect(page.locator("[name='data.split']")).to_have_value(re.compile("spl_"))


def test_the_keyboard_alone_launches_a_run(page: Page, box: Box) -> None:
    """From the queue: N opens the form, Ctrl Enter adds the run to the queue."""
    page.goto(box.url)
    page.keyboard.press("n")
    page.wait_for_url("**/runs/new")
    page.get_by_role("textbox", name="Name").focus()
    page.keyboard.type("by keyboard")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/runs/run_*")
    expect(page.get_by_role("heading", level=1)).to_contain_text("by keyboard")


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_has_a_serious_barrier_or_scrolls_sideways(
    *, page: Page, box: Box, chrome: Browser, width: int
) -> None:
    """Looks at every page with axe, in both widths and themes."""
    context = chrome.new_context(
        viewport={"width": width, "height": 844}, storage_state=page.context.storage_state()
    )
    seen = context.new_page()
    runs = page.request.get(f"{box.url}/api/v1/runs").json()["items"]
    datasets = page.request.get(f"{box.url}/api/v1/datasets").json()["items"]
    addresses = [*PAGES.values(), *(f"/runs/{run['id']}" for run in runs[-1:])]
    addresses += [
        f"/datasets/{one['id']}{section}"
        for one in datasets
        for section in ("", *(f"/{name}" for name in SECTIONS))
    ]
    wrong: list[str] = []
    for address in addresses:
        seen.goto(box.url + address)
        seen.evaluate(AXE.read_text())
        for theme in THEMES:
            seen.emulate_media(color_scheme=theme)
            seen.wait_for_timeout(300)
            # Colours that still change on a busy machine are those of neither theme.
            seen.wait_for_function(
                "() => document.getAnimations().every((one) => !(one instanceof CSSTransition)"
                " || one.playState === 'finished')"
            )
            if seen.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wrong.append(f"{address}, {theme}: scrolls sideways")
            found = seen.evaluate("axe.run().then(result => result.violations)")
            wrong += [
                f"{address}, {theme}: {item['id']}: {item['nodes'][0]['html'][:160]}"
                for item in found
                if item["impact"] in {"serious", "critical"}
            ]
    context.close()
    assert wrong == []


def test_a_failed_run_says_why_and_offers_the_next_step(page: Page, box: Box) -> None:
    """A simulated run runs out of memory; its page has cause, evidence and a retry."""
    listed = page.request.get(f"{box.url}/api/v1/datasets").json()["items"]
    model = page.request.get(f"{box.url}/api/v1/base_models").json()["items"][0]["id"]
    config = {
        "objective": "simulated",
        "simulate": {
            "steps": 20,
            "step_seconds": 0.02,
            "fail": {"kind": "out_of_memory", "at_step": 5},
        },
    }
    ready = next(item["id"] for item in listed if item["status"] == "ready")
    token = page.locator("input[name=csrf_token]").first.get_attribute("value") or ""
    made = page.request.post(
        f"{box.url}/api/v1/runs",
        data={"name": "too large", "dataset": ready, "base_model": model, "config": config},
        headers={"X-CSRF-Token": token, "Origin": box.url},
    ).json()
    page.goto(f"{box.url}/runs/{made['id']}")
    expect(page.get_by_text("Out of memory").first).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("button", name="Retry").first).to_be_visible()
