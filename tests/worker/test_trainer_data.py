"""What is learned: the assistant's turns, exactly, whatever the template looks like."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.jobs.state import FailureKind
from tests.fixtures.tiny_model import MARKED, PLAIN, make_tokenizer, rows, write_rows
from worker.trainer.data import (
    IGNORED,
    Encoded,
    Example,
    TemplateRejects,
    encode,
    encode_all,
    read_examples,
    split,
)
from worker.trainer.failures import TrainerError

TWO_TURNS = Example(
    7,
    [
        {"role": "user", "content": "What colour is the car?"},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "And the boat?"},
        {"role": "assistant", "content": "blue boat"},
    ],
)


def learned(tokenizer: Any, encoded: Encoded) -> list[str]:
    texts, run = [], []
    for label in [*encoded.labels, IGNORED]:
        if label != IGNORED:
            run.append(label)
        elif run:
            texts.append(tokenizer.decode(run))
            run = []
    return texts


def test_with_markers_the_learned_tokens_are_the_answers_and_their_ends() -> None:
    tokenizer = make_tokenizer(MARKED)
    encoded = encode(tokenizer, TWO_TURNS, assistant_only=True)
    assert learned(tokenizer, encoded) == ["red<|im_end|>", "blue boat<|im_end|>"]


def test_without_markers_the_answers_are_found_by_prefixes() -> None:
    tokenizer = make_tokenizer(PLAIN)
    encoded = encode(tokenizer, TWO_TURNS, assistant_only=True)
    assert learned(tokenizer, encoded) == ["red<|im_end|>\n", "blue boat<|im_end|>\n"]
    assert encoded.ids == encode(make_tokenizer(MARKED), TWO_TURNS, assistant_only=True).ids


def test_everything_but_the_first_token_is_learned_when_asked() -> None:
    encoded = encode(make_tokenizer(), TWO_TURNS, assistant_only=False)
    assert encoded.labels == [IGNORED, *encoded.ids[1:]]


@pytest.mark.parametrize("template", [MARKED, PLAIN])
def test_a_turn_of_weight_0_is_read_and_not_learned(template: str) -> None:
    turns = [dict(turn) for turn in TWO_TURNS.messages]
    turns[1]["weight"] = 0
    tokenizer = make_tokenizer(template)
    encoded = encode(tokenizer, Example(1, turns), assistant_only=True)
    assert [text.strip() for text in learned(tokenizer, encoded)] == ["blue boat<|im_end|>"]


def test_a_template_that_changes_earlier_turns_is_refused_not_guessed() -> None:
    forgetful = (
        "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}"
        "{{ '<|im_start|>' + m['role'] + m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
    )
    with pytest.raises(TemplateRejects, match="turn 2"):
        encode(make_tokenizer(forgetful), TWO_TURNS, assistant_only=True)


def test_a_refused_row_fails_as_template_mismatch_and_names_its_line() -> None:
    picky = "{{ raise_exception('no system turns') if messages[0]['role'] == 'system' }}" + MARKED
    system = Example(4, [{"role": "system", "content": "Be brief."}, *TWO_TURNS.messages])
    with pytest.raises(TrainerError, match=r"line 4: .*no system turns") as caught:
        encode_all(make_tokenizer(picky), [TWO_TURNS, system], max_length=64, assistant_only=True)
    assert caught.value.kind is FailureKind.TEMPLATE_MISMATCH


def test_rows_cut_before_their_answer_are_counted_and_left_out() -> None:
    long = Example(2, [{"role": "user", "content": "x " * 150}, *TWO_TURNS.messages[1:2]])
    found = encode_all(make_tokenizer(), [TWO_TURNS, long], max_length=100, assistant_only=True)
    assert ([one.line for one in found.examples], found.truncated, found.untrained) == (
        [7],
        1,
        (2,),
    )


def test_the_split_follows_from_content_and_seed_alone(tmp_path: Path) -> None:
    examples = read_examples(write_rows(tmp_path / "rows", rows(200)))
    trained, held_out = split(examples, fraction=0.1, seed=1)
    assert len(held_out) == 20
    assert sorted(e.line for e in trained + held_out) == [e.line for e in examples]
    assert split(examples, fraction=0.1, seed=1) == (trained, held_out)
    assert split(examples, fraction=0.1, seed=2) != (trained, held_out)


@pytest.mark.parametrize(
    ("count", "fraction", "held"), [(2, 0.01, 1), (2, 0.5, 1), (1, 0.5, 0), (9, 0, 0)]
)
def test_small_sets_keep_a_row_on_each_side(count: int, fraction: float, held: int) -> None:
    examples = [Example(line, [{"role": "user", "content": str(line)}]) for line in range(count)]
    trained, held_out = split(examples, fraction=fraction, seed=0)
    assert (len(trained), len(held_out)) == (count - held, held)


def test_excluded_and_blank_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("\n".join([json.dumps(row) for row in rows(3)] + ["", "not json"]))
    assert [example.line for example in read_examples(path, excluded=[2, 5])] == [1, 3]


@pytest.mark.parametrize("line", ["not json", "[]", '{"messages": []}', '{"messages": [{}]}', "1"])
def test_a_bad_line_fails_as_bad_dataset_and_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows"
    path.write_text(json.dumps(rows(1)[0]) + "\n" + line + "\n")
    with pytest.raises(TrainerError, match="line 2") as caught:
        read_examples(path)
    assert caught.value.kind is FailureKind.BAD_DATASET


def test_an_empty_or_missing_file_fails_as_bad_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "missing"):
        with pytest.raises(TrainerError) as caught:
            read_examples(tmp_path / name)
        assert caught.value.kind is FailureKind.BAD_DATASET
