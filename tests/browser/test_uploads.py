"""Files reach the box by the page of a real browser, also over a server that dies in the middle."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.box import Box, chromium, running_box
from tests.browser.screenshots import enter

SLOW = 120_000  # ms: a server's start on two busy cores
RATE = 3 * 2**20  # bytes a second of the slow line

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("box")
    (folder / "import").mkdir()
    (folder / "import" / "lamps.jsonl").write_bytes(rows(3))
    with running_box(folder, TUNEBOX_IMPORT_FOLDER=str(folder / "import")) as running:
        yield running


@pytest.fixture(scope="module")
def page(box: Box, chrome: Browser) -> Page:
    """A signed-in browser that fails the test when a script breaks or the policy is violated."""
    page = chrome.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    enter(page, box)
    return page


@pytest.fixture(autouse=True)
def no_complaints(page: Page) -> Iterator[None]:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Content Security" in message.text else None
        ),
    )
    yield
    assert complaints == []


def rows(count: int, *, length: int = 20) -> bytes:
    made = []
    for number in range(count):
        answer = f"Box {number} holds {number} lamps. " + "More lamps. " * (length // 12)
        turns = [{"role": "user", "content": f"What is in box {number}?"}]
        turns.append({"role": "assistant", "content": answer.strip()})
        made.append(json.dumps({"messages": turns}))
    return "\n".join(made).encode() + b"\n"


def dataset(page: Page, box: Box, name: str) -> dict[str, Any]:
    listed = page.request.get(f"{box.url}/api/v1/datasets?q={name}").json()["items"]
    assert len(listed) == 1, listed
    return listed[0]


def slow_line(page: Page, rate: int) -> None:
    """Let no more than ``rate`` bytes a second leave the browser; -1 lets all."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate},
    )


def test_two_files_at_once_become_two_datasets(page: Page, box: Box, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.jsonl").write_bytes(rows(5))
    page.goto(f"{box.url}/datasets")

    page.locator("input[type=file][multiple]").set_input_files(
        [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    )

    uploads = page.get_by_role("region", name="Uploads")
    expect(uploads.get_by_text("Stored")).to_have_count(2)
    expect(page.locator("#datasets-table").get_by_role("link", name="second")).to_be_visible()
    assert dataset(page, box, "first")["bytes"] == len(rows(5))
    uploads.get_by_role("link", name="Look now").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("second")


def test_a_picture_is_refused_with_the_reason_and_the_rest_goes_on(
    page: Page, box: Box, tmp_path: Path
) -> None:
    (tmp_path / "photo.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    (tmp_path / "good.jsonl").write_bytes(rows(5))
    page.goto(f"{box.url}/datasets")

    page.locator("input[type=file][multiple]").set_input_files(
        [tmp_path / "photo.jsonl", tmp_path / "good.jsonl"]
    )

    refused = page.get_by_role("listitem").filter(has_text="photo.jsonl")
    expect(refused).to_contain_text("It is not a dataset: this is a PNG picture")
    expect(page.get_by_role("listitem").filter(has_text="good.jsonl")).to_contain_text("Stored")
    refused.get_by_role("button", name="Cancel photo.jsonl").click()
    expect(refused).to_have_count(0)


def test_dropped_files_are_taken_anywhere_on_the_page(page: Page, box: Box) -> None:
    page.goto(f"{box.url}/datasets")
    expect(page.get_by_text("Drop files anywhere on this page")).to_be_visible()
    files = page.evaluate_handle(
        """text => {
            const data = new DataTransfer();
            data.items.add(new File([text], 'dropped.jsonl'));
            return data;
        }""",
        rows(5).decode(),
    )

    page.locator("#datasets-table").dispatch_event("drop", {"dataTransfer": files})

    expect(page.get_by_role("listitem").filter(has_text="dropped.jsonl")).to_contain_text("Stored")


def test_an_upload_survives_pause_and_a_server_killed_in_the_middle(
    page: Page, box: Box, tmp_path: Path
) -> None:
    content = rows(8_000, length=3_000)
    (tmp_path / "large.jsonl").write_bytes(content)
    page.goto(f"{box.url}/datasets")
    slow_line(page, RATE)
    page.get_by_label("Dataset files").set_input_files(tmp_path / "large.jsonl")
    row = page.get_by_role("listitem").filter(has_text="large.jsonl")
    bar = row.get_by_role("progressbar")
    expect(row).to_contain_text("left")
    row.get_by_role("button", name="Pause large.jsonl").click()
    expect(row).to_contain_text("Paused")
    row.get_by_role("button", name="Go on with large.jsonl").click()
    page.wait_for_function(
        "bar => Number(bar.getAttribute('aria-valuenow')) >= 30", arg=bar.element_handle()
    )

    kill_server(box)

    expect(row).to_contain_text("Line broken")
    expect(row).to_contain_text("Uploading", timeout=SLOW)
    slow_line(page, -1)
    expect(row).to_contain_text("Stored", timeout=SLOW)
    stored = dataset(page, box, "large")
    assert stored["sha256"] == hashlib.sha256(content).hexdigest()


def kill_server(box: Box) -> None:
    """Kill the server as the kernel would; `tunebox up` starts it again."""
    for child in psutil.Process(box.process.pid).children(recursive=True):
        if any("uvicorn" in part or "app.main" in part for part in child.cmdline()):
            child.kill()
            return
    raise AssertionError("no server is running")


def test_after_a_reload_the_same_file_goes_on_where_it_was(
    page: Page, box: Box, tmp_path: Path
) -> None:
    content = rows(6_000, length=3_000)
    (tmp_path / "again.jsonl").write_bytes(content)
    page.goto(f"{box.url}/datasets")
    slow_line(page, RATE)
    page.get_by_label("Dataset files").set_input_files(tmp_path / "again.jsonl")
    row = page.get_by_role("listitem").filter(has_text="again.jsonl")
    page.wait_for_function(
        "bar => Number(bar.getAttribute('aria-valuenow')) >= 30",
        arg=row.get_by_role("progressbar").element_handle(),
    )
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    expect(row).to_contain_text("Choose the same file again")
    kept = page.request.get(f"{box.url}/api/v1/uploads").json()["items"][0]
    assert 0 < kept["received"] < len(content)

    slow_line(page, -1)
    sent: list[int] = []
    page.on(
        "request",
        lambda request: (
            sent.append(int(request.headers["upload-offset"]))
            if request.method == "PATCH"
            else None
        ),
    )
    page.get_by_label("Dataset files").set_input_files(tmp_path / "again.jsonl")

    expect(row.first).to_contain_text("Stored", timeout=SLOW)
    expect(row).to_have_count(1)
    assert min(sent) > 0
    assert dataset(page, box, "again")["sha256"] == hashlib.sha256(content).hexdigest()


def test_rows_are_pasted_and_files_of_the_box_taken_in_the_dialog(page: Page, box: Box) -> None:
    page.goto(f"{box.url}/datasets")
    page.get_by_role("link", name="paste rows").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("a/b")
    dialog.get_by_role("textbox", name="Rows").fill(rows(2).decode())
    dialog.get_by_role("button", name="Make the dataset").click()
    expect(dialog.get_by_text("A name is no path")).to_be_visible()
    dialog.get_by_role("textbox", name="Name").fill("pasted by hand")
    dialog.get_by_role("button", name="Make the dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("pasted by hand")

    page.goto(f"{box.url}/datasets")
    page.get_by_role("link", name="take a file of this box").click()
    page.get_by_role("button", name="Take lamps.jsonl").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("lamps")
