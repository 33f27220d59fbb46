"""A preflight through the queue: a real worker, a real try, a result on the preflight."""

from typing import Any

from app.jobs import service as jobs
from app.jobs.state import JobStatus, StopMode
from app.kit.db import transaction
from app.kit.storage import model_folder
from app.preflights import service as preflights
from app.preflights.models import Preflight
from app.runs.schemas import RunRequest
from app.runs.trying import Mode
from tests.fixtures import builders
from tests.fixtures.tiny_model import make_model, rows
from tests.worker.box import Box
from tests.worker.conftest import Serving

CONFIG: dict[str, Any] = {
    "training": {"max_steps": 4, "max_length": 128, "packing": False, "batch_size": 4}
}


def asked(box: Box, *, has_model: bool = True) -> tuple[str, str]:
    """Queue a preflight of a tiny model; return its id and its job's."""
    with transaction(box.url) as session:
        owner = builders.create_user(session)
        content = builders.jsonl(rows(40))
        version = builders.create_dataset_version(session, owner=owner, content=content)
        model = builders.create_base_model(session, owner=owner)
        if has_model:
            make_model(model_folder(box.settings, model.folder))
        request = RunRequest(dataset=version.dataset_id, base_model=model.id, config=CONFIG)
        made = preflights.create(session, actor=owner, request=request, mode=Mode.CHECK)
        return made.id, made.job_id


def found(box: Box, preflight_id: str) -> Preflight:
    with transaction(box.url) as session:
        return preflights.get(session, preflight_id)


def test_a_preflight_ends_with_what_was_measured(box: Box, serving: Serving) -> None:
    preflight_id, job_id = asked(box)
    serving()
    box.wait(job_id, JobStatus.SUCCEEDED, seconds=90)
    result = found(box, preflight_id).result
    assert result is not None
    assert result["fits"]
    assert result["trials"][0]["measured"]["steps"] == 4
    details = [event.values.get("detail") for event in box.events(job_id)]
    assert "the settings as asked" in details


def test_a_model_that_is_gone_is_told_on_the_preflight(box: Box, serving: Serving) -> None:
    preflight_id, job_id = asked(box, has_model=False)
    serving()
    job = box.wait(job_id, JobStatus.FAILED, seconds=90)
    assert job.failure is not None
    assert job.failure["kind"] == "model_unavailable"
    preflight = found(box, preflight_id)
    assert preflight.result is None
    assert "config.json" in str(preflight.failure)


def test_a_preflight_that_is_stopped_says_so(box: Box, serving: Serving) -> None:
    preflight_id, job_id = asked(box)
    serving()
    box.wait(job_id, JobStatus.RUNNING)
    with transaction(box.url) as session:
        jobs.request_stop(session, job_id=job_id, mode=StopMode.CANCEL)
    box.wait(job_id, JobStatus.CANCELLED)
    assert "Stopped" in str(found(box, preflight_id).failure)
