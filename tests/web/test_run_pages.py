"""The page of a run and the comparison, in every state a run can be in."""

import re
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.models import AuditRow
from app.evaluations.models import EvaluationItem
from app.jobs.failures import failure_of
from app.jobs.models import Job
from app.jobs.state import FailureKind, JobStatus
from app.runs.models import Run
from tests.fixtures.builders import (
    add_events,
    add_points,
    create_base_model,
    create_dataset_version,
    create_evaluation,
    create_run,
)
from tests.fixtures.client import Client
from web.pages.measures import reading, rows_of
from web.words import compared

FRAGMENTS = (
    "header",
    "progress",
    "alerts",
    "failure",
    "evaluation",
    "checkpoints",
    "device",
    "log",
)
HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


def failed_run(session: Session, client: Client) -> Run:
    changes = {"training.batch_size": 1, "training.gradient_accumulation": 8}
    failure = failure_of(
        FailureKind.OUT_OF_MEMORY, evidence="CUDA <out> of memory", changes=changes
    )
    run = create_run(
        session,
        owner=client.actor,
        status=JobStatus.FAILED,
        failure=failure,
        step=231,
        total_steps=778,
    )
    checkpoint = {"path": "checkpoints/step-200", "bytes": 10, "best": True, "eval_loss": 0.7}
    add_events(session, run.job_id, ("checkpoint", 200, checkpoint))
    return run


class TestPage:
    @pytest.mark.parametrize("status", list(JobStatus))
    def test_a_run_in_any_state_has_its_page(
        self, client: Client, session: Session, status: JobStatus
    ) -> None:
        run = create_run(session, owner=client.actor, status=status, name="a <b>name</b>")
        answer = client.get(f"/runs/{run.id}")
        assert answer.status_code == 200
        assert "a &lt;b&gt;name&lt;/b&gt;" in answer.text
        assert f'data-state="{status.value}"' in answer.text

    @pytest.mark.parametrize("name", FRAGMENTS)
    def test_each_fragment_carries_the_id_it_is_swapped_by(
        self, client: Client, session: Session, name: str
    ) -> None:
        run = failed_run(session, client)
        answer = client.get(f"/runs/{run.id}/{name}", headers=HTMX)
        assert answer.status_code == 200
        first = re.search(r"<[a-z][^>]*?id=\"([^\"]+)\"", answer.text)
        assert first is not None
        assert first[1] == f"runs-{name}"
        assert "<html" not in answer.text

    def test_time_left_is_the_headline_of_a_running_run(
        self, client: Client, session: Session
    ) -> None:
        run = create_run(
            session,
            owner=client.actor,
            status=JobStatus.RUNNING,
            phase="training",
            step=412,
            total_steps=582,
            seconds_left=780.0,
            progress=0.7,
        )
        text = client.get(f"/runs/{run.id}/progress").text
        assert "13 min left" in text
        assert "ends at about" in text

    def test_a_waiting_run_says_why_it_waits(self, client: Client, session: Session) -> None:
        run = create_run(session, owner=client.actor)
        assert "No worker" in client.get(f"/runs/{run.id}").text

    def test_it_says_with_which_versions_it_ran(self, client: Client, session: Session) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.RUNNING)
        told = {"versions": {"torch": "2.13.0+<b>"}, "hashes": {"model": "sha256:abc"}}
        assert "What it ran with" not in client.get(f"/runs/{run.id}").text
        loading = ("phase", None, {"phase": "loading", "ran_with": told})
        add_events(session, run.job_id, ("state", None, {"status": "starting"}), loading)
        page = client.get(f"/runs/{run.id}").text
        assert "What it ran with" in page
        assert "2.13.0+&lt;b&gt;" in page
        assert "sha256:abc" in page

    def test_phases_show_how_long_they_took(self, client: Client, session: Session) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.RUNNING, phase="training")
        add_events(
            session,
            run.job_id,
            ("state", None, {"status": "starting"}),
            ("phase", None, {"phase": "loading"}),
            ("phase", 0, {"phase": "training"}),
        )
        text = client.get(f"/runs/{run.id}/progress").text
        assert re.search(r'class="done".*Loading', text)
        assert re.search(r'class="cur".*Training', text)

    def test_a_rising_validation_loss_is_said_with_its_numbers(
        self, client: Client, session: Session
    ) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.RUNNING)
        add_points(
            session, run.job_id, "eval/loss", {25: 1.2, 50: 0.9, 75: 0.95, 100: 1.0, 125: 1.1}
        )
        text = client.get(f"/runs/{run.id}/alerts").text
        assert "risen for 3 validations" in text
        assert "step 50" in text

    def test_validations_and_saves_without_number_do_not_push_out_what_it_ran_with(
        self, client: Client, session: Session
    ) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.RUNNING, phase="training")
        loading = ("phase", None, {"phase": "loading", "ran_with": {"versions": {"torch": "2.13"}}})
        starting = ("state", None, {"status": "starting"})
        within = ("phase", 1, {"phase": "training", "within": "validation"})
        add_events(session, run.job_id, starting, loading, *([within] * 2001))
        assert "What it ran with" in client.get(f"/runs/{run.id}").text

    def test_a_rising_validation_loss_is_said_once_and_stays_when_the_run_is_over(
        self, client: Client, session: Session
    ) -> None:
        told = {"code": "validation_rising", "text": "It has risen 3 times in a row."}
        curve: dict[int, float | None] = {25: 1.2, 50: 0.9, 75: 0.95, 100: 1.0, 125: 1.1}
        for status, times in ((JobStatus.RUNNING, 0), (JobStatus.SUCCEEDED, 1)):
            run = create_run(session, owner=client.actor, status=status)
            add_points(session, run.job_id, "eval/loss", curve)
            starting = ("state", None, {"status": "starting"})
            add_events(session, run.job_id, starting, ("alert", 125, told))
            text = client.get(f"/runs/{run.id}/alerts").text
            assert text.count("It has risen 3 times in a row.") == times
            assert text.count("risen for 3 validations") == 1 - times

    @pytest.mark.parametrize(("step", "times"), [(40, 1), (41, 0)])
    def test_a_stall_is_no_longer_told_once_the_run_goes_on(
        self, client: Client, session: Session, step: int, times: int
    ) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.RUNNING)
        stalled = {"code": "stalled", "text": "No step for 90 s."}
        add_events(
            session, run.job_id, ("state", None, {"status": "starting"}), ("alert", 40, stalled)
        )
        session.get_one(Job, run.job_id).step = step
        text = client.get(f"/runs/{run.id}/alerts").text
        assert text.count("No step for 90 s.") == times

    def test_a_setting_tells_why_it_has_its_value(self, client: Client, session: Session) -> None:
        run = create_run(session, owner=client.actor)
        run.reasons = {"training.learning_rate": "You chose this.", "adapter.rank": "A <reason>."}
        text = client.get(f"/runs/{run.id}").text
        assert "1 differs from the preset" in text
        assert "A &lt;reason&gt;." in text

    def test_an_unknown_run_or_fragment_is_a_page_of_404(self, client: Client) -> None:
        assert client.get("/runs/run_none").status_code == 404
        assert client.get("/runs/run_none/nonsense").status_code == 404

    def test_a_viewer_sees_no_buttons_that_change(
        self, viewer_client: Client, session: Session
    ) -> None:
        run = create_run(session, status=JobStatus.RUNNING)
        text = viewer_client.get(f"/runs/{run.id}").text
        assert "Pause" not in text
        assert "Stop…" not in text
        assert viewer_client.post(f"/runs/{run.id}/pause").status_code == 403


class TestFailure:
    def test_the_card_shows_cause_evidence_and_the_change(
        self, client: Client, session: Session
    ) -> None:
        run = failed_run(session, client)
        text = client.get(f"/runs/{run.id}/failure").text
        assert "Out of memory at step 231 of 778" in text
        assert "CUDA &lt;out&gt; of memory" in text
        assert "<del>2</del> <ins>1</ins>" in text
        assert "Retry from checkpoint 200" in text

    def test_one_click_retries_with_the_change(self, client: Client, session: Session) -> None:
        run = failed_run(session, client)
        text = client.get(f"/runs/{run.id}/failure").text
        fields = dict(re.findall(r'name="(from|changes\.[^"]+)" value="([^"]*)"', text))
        answer = client.post(f"/runs/{run.id}/retry", data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run.id}")
        training = session.get_one(Run, run.id).spec["config"]["training"]
        assert (training["batch_size"], training["gradient_accumulation"]) == (1, 8)
        assert session.get_one(Job, run.job_id).status == "queued"

    def test_the_dialog_brings_a_wrong_change_back_at_its_field(
        self, client: Client, session: Session
    ) -> None:
        run = failed_run(session, client)
        url = f"/runs/{run.id}/retry"
        assert 'value="1"' in client.get(url, headers=HTMX).text
        fields = {"from": "checkpoint", "changes.training.learning_rate": "much"}
        answer = client.post(url, data=fields, headers=HTMX)
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in answer.text
        assert session.get_one(Job, run.job_id).status == "failed"


class TestActions:
    def test_stop_says_what_is_kept_and_what_is_lost(
        self, client: Client, session: Session
    ) -> None:
        run = create_run(
            session, owner=client.actor, status=JobStatus.RUNNING, step=40, total_steps=100
        )
        text = client.get(f"/runs/{run.id}/stop", headers=HTMX).text
        assert "the 60 steps to come" in text
        assert "Lost: all 40 steps" in text
        assert client.get(f"/runs/{run.id}/stop").text.startswith("<!doctype html>")

    @pytest.mark.parametrize(("mode", "wish"), [("save", "save"), ("cancel", "cancel")])
    def test_a_running_run_stops_as_chosen(
        self, client: Client, session: Session, mode: str, wish: str
    ) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.RUNNING)
        assert client.post(f"/runs/{run.id}/stop", data={"mode": mode}).status_code == 303
        job = session.get_one(Job, run.job_id)
        assert (job.status, job.stop_mode) == ("stopping", wish)
        row = session.scalars(select(AuditRow).where(AuditRow.action == "run.stop")).one()
        assert row.user_id == client.actor.id

    def test_pause_and_resume(self, client: Client, session: Session) -> None:
        run = create_run(session, owner=client.actor)
        assert client.post(f"/runs/{run.id}/pause").status_code == 303
        assert session.get_one(Job, run.job_id).status == "paused"
        assert client.post(f"/runs/{run.id}/resume").status_code == 303
        assert session.get_one(Job, run.job_id).status == "queued"

    def test_another_members_run_is_not_stopped(
        self, member_client: Client, session: Session
    ) -> None:
        run = create_run(session, status=JobStatus.RUNNING)
        assert member_client.post(f"/runs/{run.id}/stop").status_code == 403
        assert session.get_one(Job, run.job_id).status == "running"


class TestEvaluation:
    def test_a_clear_gain_reads_better(self, client: Client, session: Session) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.SUCCEEDED)
        create_evaluation(session, run, better=0.4)
        text = client.get(f"/runs/{run.id}/evaluation").text
        assert "10.0 %" in text
        assert "+40.0" in text
        assert 'class="forest fcok"' in text

    def test_an_interval_around_zero_is_no_difference_found(self) -> None:
        assert reading(-0.1, 0.2, better="higher").text == "no difference found"
        assert reading(-0.2, -0.1, better="lower").text == "better"
        assert reading(-0.2, -0.1, better="higher").text == "worse"

    def test_answers_are_marked_word_by_word_and_escaped(
        self, client: Client, session: Session
    ) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.SUCCEEDED)
        create_evaluation(session, run, items=7)
        text = client.get(f"/runs/{run.id}/evaluation").text
        assert "refund &lt;b&gt;please&lt;/b&gt;" in text
        assert "<ins>" in text
        following = re.search(r'hx-get="(/runs/[^"]*cursor=[^"]*)"', text)
        assert following is not None
        more = client.get(following[1].replace("&amp;", "&"), headers=HTMX)
        assert more.text.count("<article") == 2

    def test_of_a_reward_model_it_is_told_which_answer_it_picks(
        self, client: Client, session: Session
    ) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.SUCCEEDED)
        evaluation = create_evaluation(session, run)
        for item in session.scalars(
            select(EvaluationItem).where(EvaluationItem.evaluation_id == evaluation.id)
        ):
            item.base_scores = {"reward_accuracy": 0.0, "reward_margin": -0.4}
            item.tuned_scores = {"reward_accuracy": float(item.index > 0), "reward_margin": 0.2}
        metrics = {"reward_accuracy": evaluation.report["metrics"]["exact_match"]}
        evaluation.report = {**evaluation.report, "metrics": metrics}
        text = client.get(f"/runs/{run.id}/evaluation").text
        assert "a difference in reward accuracy is known to about" in text
        assert (text.count("Better answer<"), text.count("Base picks the worse")) == (3, 3)
        assert (text.count("Tuned picks it"), text.count("Tuned picks the worse")) == (2, 1)
        assert "<ins>" not in text
        gained = client.get(f"/runs/{run.id}/items?which=gained", headers=HTMX).text
        assert gained.count("<article") == 2

    def test_a_filter_shows_what_training_gained(self, client: Client, session: Session) -> None:
        run = create_run(session, owner=client.actor, status=JobStatus.SUCCEEDED)
        create_evaluation(session, run)
        url = f"/runs/{run.id}/items?which="
        assert client.get(url + "gained", headers=HTMX).text.count("<article") == 3
        assert client.get(url + "lost", headers=HTMX).text.count("<article") == 0

    def test_rows_come_in_the_order_of_the_page(self, session: Session) -> None:
        report = create_evaluation(session, create_run(session)).report
        assert [row.measure.name for row in rows_of(report["metrics"])] == ["exact_match", "loss"]

    def test_words_missing_and_added_are_told_apart(self) -> None:
        pieces = [(one.kind, one.text) for one in compared("one red fox runs", "one blue fox runs")]
        assert ("missing", "red") in pieces
        assert ("added", "blue") in pieces
        assert ("same", "one ") in pieces


class TestCompare:
    @pytest.fixture
    def pair(self, client: Client, session: Session) -> list[Run]:
        version = create_dataset_version(session, owner=client.actor)
        model = create_base_model(session, owner=client.actor)
        made: dict[str, Any] = {"owner": client.actor, "version": version, "model": model}
        runs = [
            create_run(
                session,
                status=JobStatus.SUCCEEDED,
                name=f"try-{rate}",
                config={"training": {"learning_rate": rate}},
                summary={"best_eval_loss": 1 - rate},
                **made,
            )
            for rate in (0.001, 0.002)
        ]
        for run, better in zip(runs, (0.4, 0.2), strict=True):
            create_evaluation(session, run, better=better)
        return runs

    def test_two_runs_stand_side_by_side(self, client: Client, pair: list[Run]) -> None:
        answer = client.get(f"/compare?runs={pair[0].id},{pair[1].id}")
        assert answer.status_code == 200
        assert "1 of" in answer.text
        assert "training.learning_rate" in answer.text
        assert "+40.0" in answer.text
        assert 'class="fc2"' in answer.text

    def test_the_address_holds_what_it_is_compared_against(
        self, client: Client, pair: list[Run]
    ) -> None:
        ids = f"{pair[0].id},{pair[1].id}"
        text = client.get(f"/compare?runs={ids}&against={pair[0].id}").text
        assert re.search(r'aria-pressed="true">A<', text)
        assert "the chosen run" in text

    def test_both_spellings_of_a_selection_are_read(self, client: Client, pair: list[Run]) -> None:
        answer = client.get(f"/compare?runs={pair[0].id}&runs={pair[1].id}")
        assert "Between the runs" in answer.text

    @pytest.mark.parametrize(
        ("query", "status", "said"),
        [
            ("", 200, "Two runs are needed"),
            ("?runs=run_a,run_b", 422, "There is no run run_a"),
            ("?runs=" + ",".join(f"run_{n}" for n in range(9)), 422, "2 to 8 different runs"),
        ],
    )
    def test_too_few_too_many_and_unknown_runs_are_said_plainly(
        self, client: Client, query: str, status: int, said: str
    ) -> None:
        answer = client.get(f"/compare{query}")
        assert answer.status_code == status
        assert said in answer.text

    def test_one_run_asks_for_another_with_the_first_chosen(
        self, client: Client, pair: list[Run]
    ) -> None:
        text = client.get(f"/compare?runs={pair[0].id}").text
        assert f'value="{pair[0].id}" checked' in text
        assert f'value="{pair[1].id}">' in text
