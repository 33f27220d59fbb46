"""A sweep queues all its runs or none, ranks them, and ends those that lose."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.jobs import service as jobs
from app.jobs.events import EventType, JobEvent
from app.jobs.models import Job, JobEventRow
from app.jobs.state import JobStatus, StopMode
from app.kit.clock import utc_now
from app.metrics import service as metrics
from app.runs.models import Run
from app.sweeps import service
from app.sweeps.models import Sweep, SweepRun
from tests.fixtures import builders
from tests.fixtures.client import Client
from worker import training

SWEEPS = "/api/v1/sweeps"
RATES = {"training.learning_rate": {"values": [0.001, 0.002, 0.004]}}
GRID = {"fields": {**RATES, "adapter.rank": {"values": [4, 8]}}}
LOSS = "eval/loss"


def body(session: Session, **fields: Any) -> dict[str, Any]:
    version = builders.create_dataset_version(session)
    model = builders.create_base_model(session)
    return {"dataset": version.dataset_id, "base_model": model.id, "search": GRID, **fields}


def made(client: Client, session: Session, **fields: Any) -> dict[str, Any]:
    answer = client.post(SWEEPS, json=body(session, **fields))
    assert answer.status_code == 201, answer.text
    return answer.json()


def tell(session: Session, run_id: str, step: int, value: float | None) -> Job:
    """Store a validation of a run of 90 steps as the worker does."""
    job = session.get_one(Job, session.get_one(Run, run_id).job_id)
    job.total_steps, job.step = 90, step
    if job.status == JobStatus.QUEUED:
        job.status = JobStatus.RUNNING
    session.flush()
    event = JobEvent(
        seq=step, type=EventType.METRICS, at=utc_now(), step=step, values={LOSS: value}
    )
    metrics.store(session, job_id=job.id, events=[event])
    service.judge(session, job_id=job.id, events=[event])
    return job


class TestLaunch:
    def test_a_grid_queues_a_run_for_each_combination(
        self, client: Client, session: Session
    ) -> None:
        sweep = made(client, session, name="rates", config={"training": {"max_steps": 30}})
        assert (sweep["name"], sweep["unfinished"], len(sweep["runs"])) == ("rates", 6, 6)
        for run in sweep["runs"]:
            config = client.get(f"/api/v1/runs/{run['id']}").json()["spec"]["config"]
            assert config["training"]["max_steps"] == 30
            assert config["training"]["learning_rate"] == run["values"]["training.learning_rate"]
            assert config["adapter"]["rank"] == run["values"]["adapter.rank"]
        assert [run["name"] for run in sweep["runs"]] == [f"rates · {n}" for n in range(1, 7)]

    def test_random_points_are_the_same_for_the_same_seed(
        self, client: Client, session: Session
    ) -> None:
        drawn = {
            "method": "random",
            "runs": 5,
            "seed": 7,
            "fields": {"training.learning_rate": {"low": 1e-5, "high": 1e-3, "scale": "log"}},
        }
        one, other = (made(client, session, search=drawn) for _ in range(2))
        values = [[run["values"] for run in sweep["runs"]] for sweep in (one, other)]
        assert len(values[0]) == 5
        assert values[0] == values[1]

    @pytest.mark.parametrize(
        ("search", "wrong"),
        [
            (
                {"fields": {"adapter.rank": {"values": [8, 0]}}},
                {"search.fields.adapter.rank": "greater"},
            ),
            (
                {"fields": {"training.rate": {"values": [1, 2]}}},
                {"search.fields.training.rate": "no such field"},
            ),
            (
                {"fields": {"adapter.rank": {"values": list(range(1, 65))}, **RATES}},
                {"search.fields": "192 combinations"},
            ),
            (
                {"fields": {"data.validation_fraction": {"values": [0.1, 0.2]}}},
                {"search.fields.data.validation_fraction": "would not compare"},
            ),
            (
                {"fields": {"training.max_length": {"values": [64, 128]}}},
                {"search.fields.training.max_length": "would not compare"},
            ),
            ({"fields": {"adapter.rank": {"values": [8]}}}, {"search.fields": "one run only"}),
            ({"method": "random", "fields": RATES}, {"search.runs": "how many"}),
        ],
    )
    def test_a_search_that_cannot_be_is_refused_whole_at_its_field(
        self, client: Client, session: Session, search: dict[str, Any], wrong: dict[str, str]
    ) -> None:
        answer = client.post(SWEEPS, json=body(session, search=search))
        assert answer.status_code == 422, answer.text
        messages = {one["field"]: one["message"] for one in answer.json()["errors"]}
        for field, told in wrong.items():
            assert told in messages[field]
        for table in (Sweep, SweepRun, Run, Job):
            assert session.scalar(select(func.count()).select_from(table)) == 0

    @pytest.mark.parametrize(
        ("fields", "at"),
        [
            ({"config": {"data": {"validation_fraction": 0}}}, "config.data.validation_fraction"),
            ({"metric": "eval/nonsense"}, "metric"),
        ],
    )
    def test_without_a_figure_to_compare_by_there_is_no_sweep(
        self, client: Client, session: Session, fields: dict[str, Any], at: str
    ) -> None:
        answer = client.post(SWEEPS, json=body(session, **fields))
        assert answer.status_code == 422, answer.text
        assert [one["field"] for one in answer.json()["errors"]] == [at]
        assert session.scalar(select(func.count()).select_from(Run)) == 0

    def test_the_refusal_names_the_run_and_its_values(
        self, client: Client, session: Session
    ) -> None:
        search = {"fields": {"adapter.rank": {"values": [8, 0]}}}
        answer = client.post(SWEEPS, json=body(session, search=search))
        assert answer.json()["detail"].startswith("Run 2 (rank 0): ")


class TestRanking:
    def test_runs_come_best_first_and_those_without_a_figure_last(
        self, client: Client, session: Session
    ) -> None:
        sweep = made(client, session, search={"fields": RATES})
        ids = [run["id"] for run in sweep["runs"]]
        tell(session, ids[0], 10, 2.0)
        tell(session, ids[2], 10, 1.0)
        tell(session, ids[2], 20, 1.5)
        found = client.get(f"{SWEEPS}/{sweep['id']}").json()["runs"]
        assert [run["id"] for run in found] == [ids[2], ids[0], ids[1]]
        assert (found[0]["best_value"], found[0]["best_step"]) == (1.0, 10)
        assert found[2]["best_value"] is None

    def test_the_list_goes_on_where_it_ended(self, client: Client, session: Session) -> None:
        names = [made(client, session, name=name)["name"] for name in ("a", "b", "c")]
        first = client.get(f"{SWEEPS}?limit=2").json()
        second = client.get(f"{SWEEPS}?limit=2&cursor={first['next']}").json()
        listed = [one["name"] for one in (*first["items"], *second["items"])]
        assert listed == names[::-1]
        assert (first["total"], second["next"]) == (3, None)


class TestHalving:
    def started(self, client: Client, session: Session, **halving: int) -> list[str]:
        sweep = made(client, session, search={"fields": RATES}, halving=halving)
        return [run["id"] for run in sweep["runs"]]

    def test_a_losing_run_is_stopped_with_its_work_and_told_why(
        self, client: Client, session: Session
    ) -> None:
        good, fair, bad = self.started(client, session, factor=3, rungs=1)
        assert tell(session, good, 30, 1.0).status == JobStatus.RUNNING
        assert tell(session, bad, 10, 3.0).status == JobStatus.RUNNING  # before the rung
        job = tell(session, bad, 30, 3.0)
        assert (job.status, job.stop_mode) == (JobStatus.STOPPING, "save")
        entry = session.get_one(SweepRun, bad)
        assert entry.ended is not None
        assert (entry.ended["place"], entry.ended["of"], entry.rung) == (2, 2, 1)
        texts = session.scalars(
            select(JobEventRow.values).where(
                JobEventRow.job_id == job.id, JobEventRow.type == EventType.LOG
            )
        ).all()
        assert any("number 2 of 2, and the best 1 go on" in one["text"] for one in texts)
        assert tell(session, fair, 30, 0.5).status == JobStatus.RUNNING

    def test_a_run_is_judged_once_at_a_rung(self, client: Client, session: Session) -> None:
        first, second, _ = self.started(client, session, factor=3, rungs=1)
        tell(session, first, 30, 2.0)
        tell(session, second, 30, 1.0)
        assert tell(session, first, 40, 2.0).status == JobStatus.RUNNING

    def test_a_loss_that_is_no_number_loses(self, client: Client, session: Session) -> None:
        first, second, _ = self.started(client, session, factor=2, rungs=1)
        tell(session, first, 45, 2.0)
        assert tell(session, second, 45, None).status == JobStatus.STOPPING

    def test_a_run_at_its_last_step_is_not_ended(self, client: Client, session: Session) -> None:
        first, second, _ = self.started(client, session, factor=3, rungs=1)
        tell(session, first, 90, 1.0)
        assert tell(session, second, 90, 3.0).status == JobStatus.RUNNING
        assert session.get_one(SweepRun, second).ended is None

    def test_a_run_that_somebody_pauses_is_paused_and_judged_when_it_goes_on(
        self, client: Client, session: Session
    ) -> None:
        first, second, _ = self.started(client, session, factor=3, rungs=1)
        tell(session, first, 30, 1.0)
        job = tell(session, second, 10, 3.0)
        job.status, job.stop_mode = JobStatus.PAUSING, "pause"
        assert tell(session, second, 30, 3.0).status == JobStatus.PAUSING
        job.status, job.stop_mode = JobStatus.RUNNING, None
        assert tell(session, second, 40, 3.0).status == JobStatus.STOPPING

    def test_a_run_that_is_started_again_is_not_called_ended(
        self, client: Client, session: Session
    ) -> None:
        first, second, _ = self.started(client, session, factor=3, rungs=1)
        tell(session, first, 30, 1.0)
        job = tell(session, second, 30, 3.0)
        address = f"{SWEEPS}/{session.get_one(SweepRun, second).sweep_id}"

        def told() -> dict[str, Any] | None:
            runs = client.get(address).json()["runs"]
            return next(run["ended"] for run in runs if run["id"] == second)

        job.status = JobStatus.CANCELLED
        assert told()
        client.post(f"/api/v1/runs/{second}/retry", json={})
        assert told() is None
        job.status, job.step = JobStatus.SUCCEEDED, 90
        assert told() is None

    def test_without_halving_all_run_to_their_end(self, client: Client, session: Session) -> None:
        sweep = made(client, session, search={"fields": RATES})
        one, other, _ = (run["id"] for run in sweep["runs"])
        tell(session, one, 60, 1.0)
        assert tell(session, other, 60, 9.0).status == JobStatus.RUNNING

    def test_a_run_of_no_sweep_is_not_judged(self, client: Client, session: Session) -> None:
        request = body(session)
        del request["search"]
        run = client.post("/api/v1/runs", json=request).json()
        assert tell(session, run["id"], 60, 9.0).status == JobStatus.RUNNING


def test_stopping_a_sweep_ends_what_runs_and_drops_what_waits(
    client: Client, session: Session
) -> None:
    sweep = made(client, session, search={"fields": RATES})
    running, waiting, _ = (run["id"] for run in sweep["runs"])
    tell(session, running, 10, 1.0)
    answer = client.post(f"{SWEEPS}/{sweep['id']}/stop")
    assert answer.status_code == 202, answer.text
    states = {run["id"]: run["status"] for run in answer.json()["runs"]}
    assert (states[running], states[waiting]) == ("stopping", "cancelled")
    assert answer.json()["stopped_at"]


def test_a_run_that_ends_meanwhile_keeps_no_sweep_from_stopping(
    client: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = made(client, session, search={"fields": RATES})
    first, second, _ = (run["id"] for run in sweep["runs"])
    asked = jobs.request_stop

    def ends_first(session: Session, *, job_id: str, mode: StopMode) -> Job:
        job = session.get_one(Job, job_id)
        if job_id == session.get_one(Run, first).job_id:
            job.status = JobStatus.SUCCEEDED
        return asked(session, job_id=job_id, mode=mode)

    monkeypatch.setattr(jobs, "request_stop", ends_first)
    answer = client.post(f"{SWEEPS}/{sweep['id']}/stop")
    assert answer.status_code == 202, answer.text
    states = {run["id"]: run["status"] for run in answer.json()["runs"]}
    assert (states[first], states[second]) == ("succeeded", "cancelled")


def test_another_member_may_not_stop_it(
    client: Client, member_client: Client, session: Session
) -> None:
    sweep = made(client, session, search={"fields": RATES})
    assert member_client.post(f"{SWEEPS}/{sweep['id']}/stop").status_code == 403


def test_what_a_worker_records_is_judged(client: Client, session: Session, tmp_path: Path) -> None:
    halving = {"factor": 3, "rungs": 1}
    sweep = made(client, session, search={"fields": RATES}, halving=halving)
    good, bad, _ = (run["id"] for run in sweep["runs"])
    tell(session, good, 30, 1.0)
    job = tell(session, bad, 10, 3.0)
    figures = {LOSS: 3.0}
    event = JobEvent(seq=9, type=EventType.METRICS, at=utc_now(), step=30, values=figures)
    training.Hook(job.id, tmp_path)(session, [event])
    assert job.status == JobStatus.STOPPING


def test_an_unknown_sweep_is_not_found(client: Client) -> None:
    assert client.get(f"{SWEEPS}/swp_none").status_code == 404


def test_a_viewer_may_not_launch(viewer_client: Client, session: Session) -> None:
    assert viewer_client.get(SWEEPS).status_code == 200
    assert viewer_client.post(SWEEPS, json=body(session)).status_code == 403
    assert viewer_client.post(f"{SWEEPS}/swp_none/stop").status_code == 403
