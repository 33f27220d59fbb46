"""The first event says what a run ran with, and another input has another hash."""

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from app.runs.spec import TrainerJob
from tests.fixtures.tiny_model import make_model, rows, write_rows
from tests.worker.trainer_jobs import write_job
from worker.trainer import provenance


def job_of(folder: Path, model: Path, dataset: Path) -> TrainerJob:
    path = write_job(folder, {}, model=model, dataset=dataset) / "spec.json"
    return TrainerJob.model_validate_json(path.read_bytes())


def test_versions_and_hashes_of_all_inputs_are_told(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    dataset = write_rows(tmp_path / "rows.jsonl", rows(4))

    told = provenance.ran_with(job_of(tmp_path / "job", model, dataset))

    assert told["versions"]["torch"] == metadata.version("torch")
    assert told["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["product"]["version"] == metadata.version("tunebox")
    assert set(told["hashes"]) == {"model", "tokenizer", "template", "dataset"}
    assert json.loads(json.dumps(told)) == told


def test_another_input_has_another_hash_and_the_others_stay(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    dataset = write_rows(tmp_path / "rows.jsonl", rows(4))
    job = job_of(tmp_path / "job", model, dataset)
    before = provenance.ran_with(job)["hashes"]

    write_rows(dataset, rows(5))
    changed = provenance.ran_with(job)["hashes"]
    assert {name for name in before if before[name] != changed[name]} == {"dataset"}

    (model / "chat_template.jinja").write_text("{{ messages }}")
    weights = next(model.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    again = provenance.ran_with(job)["hashes"]
    assert {name for name in before if changed[name] != again[name]} == {"model", "template"}


def test_of_large_weights_headers_and_sizes_are_hashed_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model")
    job = job_of(tmp_path / "job", model, write_rows(tmp_path / "rows.jsonl", rows(4)))
    whole = provenance.ran_with(job)["hashes"]["model"]
    monkeypatch.setattr(provenance, "_WHOLE", 0)
    part = provenance.ran_with(job)["hashes"]["model"]
    assert whole.startswith("sha256:")
    assert part.startswith("sha256 of headers and sizes:")
