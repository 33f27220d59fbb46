"""The new-run form while it is filled in: wrong fields are named, the rest still resolves."""

from typing import Any

from sqlalchemy.orm import Session

from app.auth.roles import Actor
from app.jobs.models import Job
from app.jobs.state import JobStatus
from app.runs.drafting import Draft, draft
from app.runs.spec import Preset
from app.settings import Settings
from tests.fixtures import builders


def drafted(session: Session, actor: Actor, changes: dict[str, Any], **version: Any) -> Draft:
    dataset = builders.create_dataset_version(session, **version)
    model = builders.create_base_model(session)
    return draft(
        session,
        actor=actor,
        dataset_id=dataset.dataset_id,
        base_model_id=model.id,
        changes=changes,
    )


def test_nothing_chosen_is_an_empty_draft(session: Session, actor: Actor) -> None:
    assert draft(session, actor=actor, dataset_id=None, base_model_id=None).spec is None


def test_typed_text_becomes_values_and_empty_means_the_preset(
    session: Session, actor: Actor, settings: Settings
) -> None:
    typed = {"training.learning_rate": "1e-3", "training.packing": "true", "adapter.rank": ""}
    found = drafted(session, actor, typed)
    assert found.spec is not None
    assert found.spec.config.training.learning_rate == 1e-3
    assert found.spec.config.adapter.rank == 16
    assert found.given == {"training.learning_rate", "training.packing"}
    assert not found.errors


def test_a_wrong_field_is_named_and_the_others_still_count(
    session: Session, actor: Actor, settings: Settings
) -> None:
    found = drafted(session, actor, {"adapter.rank": "many", "training.epochs": "2"})
    assert set(found.errors) == {"adapter.rank"}
    assert found.spec is not None
    assert found.spec.config.training.epochs == 2


def test_what_keeps_inputs_from_training_stands_at_their_field(
    session: Session, actor: Actor, settings: Settings
) -> None:
    checking = drafted(session, actor, {}, status="checking")
    flawed = drafted(session, actor, {}, status="invalid", bad_rows=2)
    assert set(checking.errors) == {"dataset"}
    assert set(flawed.errors) == {"data.exclude_problem_rows"}


def test_each_preset_says_what_it_takes(session: Session, actor: Actor, settings: Settings) -> None:
    options = drafted(session, actor, {}).options
    assert [option.preset for option in options] == list(Preset)
    assert all(option.steps and option.memory.total for option in options)
    assert [option.seconds for option in options] == [None, None, None]


def test_time_is_told_by_the_pace_of_a_run_like_it(
    session: Session, actor: Actor, settings: Settings
) -> None:
    first = drafted(session, actor, {})
    assert first.spec is not None
    version = builders.create_dataset_version(session)
    model = builders.create_base_model(session)
    run = builders.create_run(
        session,
        version=version,
        model=model,
        status=JobStatus.SUCCEEDED,
        summary={"seconds": 30.0},
        step=100,
        device_kind="auto",
    )
    run.spec = first.spec.model_dump(mode="json")
    assert session.get_one(Job, run.job_id).step == 100
    session.flush()
    found = draft(session, actor=actor, dataset_id=version.dataset_id, base_model_id=model.id)
    assert found.steps is not None
    assert found.estimated_seconds is not None
    assert abs(found.estimated_seconds - 0.3 * found.steps) <= 1
    two = {"resources.devices": 2}
    other = draft(
        session, actor=actor, dataset_id=version.dataset_id, base_model_id=model.id, changes=two
    )
    assert other.estimated_seconds is None
