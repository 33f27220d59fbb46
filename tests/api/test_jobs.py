"""Jobs and devices over HTTP."""

from sqlalchemy.orm import Session

from app.devices import service as devices
from app.devices.inventory import Found
from app.jobs import leasing
from app.jobs.state import JobStatus
from app.queue import Lane
from tests.fixtures.builders import create_run, create_user
from tests.fixtures.client import Client

CPU = Found(kind="cpu", index=0, name="test CPU", memory_bytes=2**30, reading={"memory_used": 7})


def test_jobs_are_listed_newest_first_with_why_they_wait(client: Client, session: Session) -> None:
    first = create_run(session)
    second = create_run(session)
    create_run(session, status=JobStatus.SUCCEEDED)
    body = client.get("/api/v1/jobs?status=queued").json()
    assert [item["id"] for item in body["items"]] == [second.job_id, first.job_id]
    assert body["total"] == 2
    reason = "No worker is running; start one with `tunebox worker`."
    assert body["items"][0]["waiting_reason"] == reason


def test_devices_say_what_each_does(client: Client, session: Session) -> None:
    run = create_run(session, name="support-tone")
    devices.announce(session, host="box", found=[CPU])
    claim = leasing.claim(session, worker="w", host="box", lane=Lane.DEVICES, lease_seconds=60)
    assert claim is not None
    (device,) = client.get("/api/v1/devices").json()["items"]
    assert (device["id"], device["memory_used"], device["run"]) == ("box:cpu", 7, run.id)
    assert device["job"]["title"] == "support-tone"


def test_events_come_in_pages(client: Client, session: Session) -> None:
    run = create_run(session)
    devices.announce(session, host="box", found=[CPU])
    leasing.claim(session, worker="w", host="box", lane=Lane.DEVICES, lease_seconds=60)
    url = f"/api/v1/jobs/{run.job_id}/events"
    body = client.get(f"{url}?limit=1").json()
    assert (body["items"][0]["values"]["status"], body["next"]) == ("starting", 1)
    assert client.get(f"{url}?after=1").json() == {"items": [], "next": None}


def test_only_its_owner_or_an_admin_stops_a_job(
    client: Client, member_client: Client, session: Session
) -> None:
    url = f"/api/v1/jobs/{create_run(session, owner=create_user(session)).job_id}/stop"
    assert member_client.post(url, json={"mode": "cancel"}).status_code == 403
    answer = client.post(url, json={"mode": "cancel"})
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert client.post(url, json={"mode": "cancel"}).status_code == 409


def test_an_unknown_job_is_not_found(client: Client) -> None:
    assert client.get("/api/v1/jobs/job_x").json()["code"] == "not_found"
