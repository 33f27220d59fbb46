"""Packing loses nothing and mixes nothing."""

from typing import Any

import pytest

from tests.fixtures.tiny_model import make_model, make_tokenizer, rows, write_rows
from worker.trainer import packing
from worker.trainer.data import Encoded, encode_all, read_examples
from worker.trainer.schedule import learning_rate, total_steps


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> list[Encoded]:
    path = write_rows(tmp_path_factory.mktemp("data") / "rows", rows(40))
    found = encode_all(make_tokenizer(), read_examples(path), max_length=256, assistant_only=True)
    return found.examples


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    return LlamaForCausalLM.from_pretrained(make_model(tmp_path_factory.mktemp("model"))).eval()


def test_every_example_is_packed_once_and_no_row_is_too_long(encoded: list[Encoded]) -> None:
    filled = packing.pack(encoded, max_length=256)
    assert sorted(one.line for row in filled for one in row) == [one.line for one in encoded]
    lengths = [sum(len(one.ids) for one in row) for row in filled]
    assert max(lengths) <= 256
    assert sum(lengths) > 0.85 * 256 * (len(lengths) - 1)


def test_a_packed_batch_has_the_loss_of_its_examples_alone(
    model: Any, encoded: list[Encoded]
) -> None:
    import torch

    filled = packing.pack(encoded, max_length=256)[-3:]
    learned = torch.tensor(packing.count_trained(filled))
    batch = packing.in_one_row(filled)
    with torch.no_grad():
        together = model(**batch, num_items_in_batch=learned, use_cache=False).loss.item()
        alone = sum(
            model(
                **packing.padded([[one]], pad=0), num_items_in_batch=learned, use_cache=False
            ).loss.item()
            for row in filled
            for one in row
        )
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_padded_batch_has_the_loss_of_its_examples_alone(
    model: Any, encoded: list[Encoded]
) -> None:
    import torch

    some = packing.alone(encoded[:5])
    learned = torch.tensor(packing.count_trained(some))
    with torch.no_grad():
        together = model(**packing.padded(some, pad=0), num_items_in_batch=learned).loss.item()
        alone = sum(
            model(**packing.padded([row], pad=0), num_items_in_batch=learned).loss.item()
            for row in some
        )
    assert together == pytest.approx(alone, abs=1e-5)


def test_an_epoch_sees_each_row_once_in_an_order_of_its_own() -> None:
    epochs = [
        [
            row
            for step in range(4 * epoch, 4 * epoch + 4)
            for row in packing.rows_of_step(step, rows=13, rows_in_step=4, seed=3)
        ]
        for epoch in range(2)
    ]
    assert [sorted(order) for order in epochs] == [list(range(13))] * 2
    assert epochs[0] != epochs[1]


def test_half_the_batch_and_twice_the_accumulation_train_the_same_rows() -> None:
    assert packing.rows_of_step(5, rows=50, rows_in_step=8 * 1, seed=1) == packing.rows_of_step(
        5, rows=50, rows_in_step=4 * 2, seed=1
    )


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [
        learning_rate(step, peak=1.0, total=100, warmup_ratio=0.1, scheduler="cosine")
        for step in range(101)
    ]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == 1.0
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert total_steps(epochs=0.5, max_steps=None, steps_in_epoch=3) == 2
    assert total_steps(epochs=0.5, max_steps=7, steps_in_epoch=3) == 7
