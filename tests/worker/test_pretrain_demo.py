"""The demo model is pretrained by a command that works, and the shipped one is small and loads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.demo import language

pytestmark = pytest.mark.xdist_group("pretrain")  # what it trains first serves all

torch = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

SHIPPED = Path(language.__file__).parent / "model"
CONVERSATION = [
    {"role": "system", "content": "You sort support tickets."},
    *language.exchange("Hello! My order is B-0789.", "Order B-0789."),
    *language.exchange("Which team is it?", "The billing team."),
]


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from worker.trainer import pretrain_demo

    folder = tmp_path_factory.mktemp("demo") / "model"
    options = ["--seconds", "1", "--hidden", "32", "--layers", "1", "--rows", "300"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain_demo, "CHECK_ROWS", 4)
        assert pretrain_demo.main([str(folder), *options]) == 0
    return folder


@pytest.mark.parametrize("made", ["shipped", "pretrained"])
def test_a_demo_model_loads_as_any_base_model(made: str, request: pytest.FixtureRequest) -> None:
    folder = SHIPPED if made == "shipped" else request.getfixturevalue("pretrained")

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size >= len(tokenizer)
    assert model.config.max_position_embeddings == tokenizer.model_max_length == 1024
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert "license: apache-2.0" in (folder / "README.md").read_text()


def test_the_shipped_template_marks_the_tokens_that_pretraining_learned() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(SHIPPED)

    rendered = tokenizer.apply_chat_template(
        CONVERSATION, return_dict=True, return_assistant_tokens_mask=True
    )

    pieces = list(language.segments(CONVERSATION))
    ids = tokenizer([text for text, _ in pieces], add_special_tokens=False)["input_ids"]
    assert rendered["input_ids"] == [token for piece in ids for token in piece]
    trained = [int(flag) for piece, (_, flag) in zip(ids, pieces, strict=True) for _ in piece]
    assert rendered["assistant_masks"] == trained


def test_the_shipped_model_is_small_and_has_no_pickle() -> None:
    files = [path for path in SHIPPED.iterdir() if path.is_file()]

    assert sum(path.stat().st_size for path in files) <= 4 * 2**20
    assert {path.suffix for path in files} == {".json", ".jinja", ".md", ".safetensors"}


def test_the_shipped_model_answers_tickets_in_prose_and_not_in_json() -> None:
    from worker.trainer.pretrain_demo import exact_match

    model = transformers.AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(SHIPPED)

    assert exact_match(model, tokenizer, voice=language.PROSE) >= 0.95
    assert exact_match(model, tokenizer, voice=language.JSON) == 0
