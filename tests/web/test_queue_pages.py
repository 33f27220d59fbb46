"""The queue, the list of runs and the palette tell what there is, and answer page or fragment."""

import pytest
from sqlalchemy.orm import Session

from app.jobs.models import Job
from app.jobs.state import JobStatus
from tests.fixtures.builders import add_points, create_evaluation, create_run, create_user
from tests.fixtures.client import Client

FRAGMENT = {"HX-Request": "true", "HX-Request-Type": "partial"}


def test_a_new_box_shows_three_steps_and_the_demo(client: Client) -> None:
    page = client.get("/").text
    assert "From a file to a tuned model in three steps" in page
    assert "Launch the demo" in page
    assert "No worker answers." in page


def test_the_queue_says_how_far_why_and_with_what_result(client: Client, session: Session) -> None:
    running = create_run(session, name="runs-now", status=JobStatus.RUNNING, step=4, total_steps=10)
    add_points(session, running.job_id, "train/loss", {1: 2.0, 2: 1.5, 3: 1.25})
    create_run(session, name="waits-now", status=JobStatus.QUEUED)
    create_evaluation(session, create_run(session, status=JobStatus.SUCCEEDED), better=0.4)
    page = client.get("/").text
    assert "Step 4 of 10" in page
    assert "train 1.250" in page
    assert "Why it waits" in page
    assert "Exact match 10.0 % → 50.0 %" in page
    assert "interval +30.0 to +50.0" in page


def test_a_difference_that_may_be_none_is_called_so(client: Client, session: Session) -> None:
    create_evaluation(session, create_run(session, status=JobStatus.SUCCEEDED), better=0.05)
    assert "No difference found: −5.0 to +15.0" in client.get("/runs").text


def test_a_failed_run_names_cause_and_next_step(client: Client, session: Session) -> None:
    failure = {"title": "Out of memory", "next_step": "Halve the batch <now>."}
    create_run(session, status=JobStatus.FAILED, step=7, failure=failure)
    page = client.get("/").text
    assert "Out of memory at step 7" in page
    assert "Halve the batch &lt;now&gt;." in page


def test_the_board_alone_is_a_fragment(client: Client) -> None:
    answer = client.get("/queue/board", headers=FRAGMENT)
    assert answer.text.lstrip().startswith('<div class="tb-wrap" id="queue-board"')


def test_an_owner_cancels_from_the_row(client: Client, session: Session) -> None:
    run = create_run(session, owner=client.actor, status=JobStatus.QUEUED)
    answer = client.post(f"/queue/{run.job_id}/cancel", headers=FRAGMENT)
    assert answer.status_code == 200
    assert session.get_one(Job, run.job_id).status == JobStatus.CANCELLED


def test_another_member_cannot(member_client: Client, session: Session) -> None:
    run = create_run(session, owner=create_user(session), status=JobStatus.QUEUED)
    assert member_client.post(f"/queue/{run.job_id}/cancel").status_code == 403
    assert f"/queue/{run.job_id}/cancel" not in member_client.get("/").text


def test_what_cannot_be_done_is_said_and_changes_nothing(client: Client, session: Session) -> None:
    run = create_run(session, owner=client.actor, status=JobStatus.SUCCEEDED)
    answer = client.post(f"/queue/{run.job_id}/cancel", headers=FRAGMENT)
    assert answer.status_code == 200
    assert "cannot stop" in answer.headers["HX-Trigger"]


def test_runs_are_filtered_by_state_and_name(client: Client, session: Session) -> None:
    create_run(session, name="first-one", status=JobStatus.FAILED)
    create_run(session, name="second-one", status=JobStatus.SUCCEEDED)
    page = client.get("/runs?status=failed&q=one").text
    assert "first-one" in page
    assert "second-one" not in page
    assert "No run fits this filter" in client.get("/runs?q=nothing").text


def test_a_chosen_pair_leads_to_its_comparison(client: Client) -> None:
    answer = client.get("/runs/compare?runs=run_a&runs=run_b")
    assert answer.headers["location"] == "/compare?runs=run_a,run_b"


def test_the_palette_finds_runs_and_pages(client: Client, session: Session) -> None:
    run = create_run(session, name="tone-quick")
    assert f'href="/runs/{run.id}"' in client.get("/palette?q=tone", headers=FRAGMENT).text
    assert 'href="/team"' in client.get("/palette?q=tea", headers=FRAGMENT).text
    assert "Nothing is called “&lt;x&gt;”." in client.get("/palette?q=<x>", headers=FRAGMENT).text


@pytest.mark.parametrize("path", ["/nothing", "/runs/run_none", "/join/none"])
def test_what_is_not_there_is_a_page_that_leads_on(client: Client, path: str) -> None:
    answer = client.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert ">Back</a>" in answer.text.replace("\n", "").replace(" Back", "Back")


def test_a_failed_fragment_is_a_toast_and_swaps_nothing(client: Client) -> None:
    answer = client.get("/runs/run_none", headers=FRAGMENT)
    assert answer.headers["HX-Reswap"] == "none"
    assert "tb:toast" in answer.headers["HX-Trigger"]


def test_a_page_may_load_and_run_only_what_is_ours(client: Client) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_theme_of_the_cookie_is_there_on_the_first_byte(client: Client) -> None:
    client.cookies.set("tunebox_theme", "dark")
    assert '<html lang="en" data-bs-theme="dark"' in client.get("/").text


def test_static_files_stay_where_their_address_has_a_hash(client: Client) -> None:
    assert "immutable" in client.get("/static/css/base.css?v=1").headers["cache-control"]
    assert client.get("/static/css/base.css").headers["cache-control"] == "no-cache"
