"""Well-known chat templates: our ids are those of Transformers, and only answers are learned."""

import json
import random
import unicodedata
from collections.abc import Sequence
from datetime import date
from functools import cache
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError

from tests.fixtures.templates.families import FAMILIES, Family
from worker.trainer import canonical, masks
from worker.trainer.chat import Chat
from worker.trainer.coding import Asked, Coder, Whole
from worker.trainer.templates import ChatTemplate, TemplateRejects
from worker.trainer.words import Words, words_of

Turns = list[dict[str, Any]]

PLAIN = ["Hi.", "Where is my parcel?", "It left on Monday; see 12,345.", "def f(x):\n    return x"]
texts = st.one_of(
    st.sampled_from(PLAIN),
    st.text(
        st.characters(exclude_categories=("Cs", "Cn", "Co"), max_codepoint=0x1FFFF),
        min_size=1,
        max_size=30,
    ).filter(lambda text: text.strip() != ""),
    st.lists(
        st.sampled_from([*"aB1.,'!/\n\t ", "  ", "é", "e\u0301", "你好", "🙂", "'s", " the", "▁"]),
        min_size=1,
        max_size=12,
    )
    .map("".join)
    .filter(lambda text: text.strip() != ""),
)


@st.composite
def conversations(draw: st.DrawFn) -> Turns:
    turns: Turns = []
    if draw(st.integers(0, 3)) == 0:
        turns.append({"role": "system", "content": draw(texts)})
    for _ in range(draw(st.integers(1, 3))):
        turns.append({"role": "user", "content": draw(texts)})
        turns.append({"role": "assistant", "content": draw(texts)})
        if draw(st.integers(0, 5)) == 0:
            turns[-1]["weight"] = draw(st.sampled_from([0, 1]))
    return turns


@cache
def chat_of(name: str) -> Chat:
    family = FAMILIES[name]
    special = {"bos_token": family.bos, "eos_token": family.eos}
    named = {key: token for key, token in special.items() if token is not None}
    return Chat(family.tokenizer(), {"default": family.source}, named)


@cache
def peer_of(name: str) -> Any:
    return FAMILIES[name].transformers()


def learned(chat: Chat, coded: masks.Coded) -> list[str]:
    """Return the learned stretches as text."""
    ids = memoryview(coded.ids).cast("I").tolist()
    stretches = groupby(zip(ids, coded.trained, strict=True), key=lambda pair: pair[1])
    return [
        chat.tokenizer.decode([token for token, _ in pairs], skip_special_tokens=False)
        for trained, pairs in stretches
        if trained
    ]


def expected(family: Family, turns: Turns) -> list[str]:
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    written = family.learned([turn["content"] for turn in answers])
    kept = [one for turn, one in zip(answers, written, strict=True) if turn.get("weight", 1)]
    return [read_back(family, one) for one in kept]


def read_back(family: Family, text: str) -> str:
    """Return what is left of a text once a tokenizer of the family's kind has normalised it."""
    if family.kind == "qwen":
        return unicodedata.normalize("NFC", text)
    return text.replace("▁", " ") if family.kind in {"gemma", "llama2"} else text


def without_weights(turns: Turns) -> Turns:
    return [{key: turn[key] for key in ("role", "content")} for turn in turns]


def assert_exact(family: Family, turns: Turns) -> bool:
    """Hold both promises for one conversation; return whether it is taken."""
    chat, peer = chat_of(family.name), peer_of(family.name)
    try:
        rendered = peer.apply_chat_template(without_weights(turns), tokenize=True)["input_ids"]
    except TemplateError:
        with pytest.raises(TemplateRejects):
            masks.code(chat, turns, assistant_only=False)
        return False
    whole = masks.code(chat, turns, assistant_only=False)
    assert memoryview(whole.ids).cast("I").tolist() == rendered
    ways = [coded_or_refused(chat, turns, coder) for coder in (chat.quick, chat.whole)]
    assert ways[0] == ways[1]
    if isinstance(ways[0], str):
        assert "cannot be known" in ways[0]
        return False
    assert ways[0].ids == whole.ids
    assert learned(chat, ways[0]) == expected(family, turns)
    return True


def coded_or_refused(chat: Chat, turns: Turns, coder: Coder) -> masks.Coded | str:
    try:
        return masks.code(chat, turns, assistant_only=True, coder=coder)
    except TemplateRejects as error:
        return str(error)


def many(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@pytest.mark.parametrize("name", sorted(FAMILIES))
@many(40)
@given(turns=conversations())
def test_exactly_the_answers_are_learned_or_the_row_is_refused(name: str, turns: Turns) -> None:
    assert_exact(FAMILIES[name], turns)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
@many(500)
@given(turns=conversations())
def test_the_same_of_five_hundred_conversations_each(name: str, turns: Turns) -> None:
    assert_exact(FAMILIES[name], turns)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_plain_conversations_are_taken(name: str) -> None:
    family = FAMILIES[name]
    one = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello, you."}]
    assert assert_exact(family, one)
    takes_two = family.turn_of_last is None
    assert assert_exact(family, [*one, *one]) is takes_two, "earlier turns are written differently"
    system = [{"role": "system", "content": "Be brief."}, *one]
    assert assert_exact(family, system) is family.takes_system


def test_a_thought_is_learned_in_the_last_turn_and_makes_earlier_turns_unknowable() -> None:
    asked = {"role": "user", "content": "2 + 2?"}
    thought = {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\n4"}
    assert assert_exact(FAMILIES["qwen3"], [asked, thought])
    with pytest.raises(TemplateRejects, match="turn 2 is rendered differently"):
        masks.code(chat_of("qwen3"), [asked, thought, asked, thought], assistant_only=True)


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather <b>&amp; wind</b> in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}
WITH_TOOLS: Turns = [
    {"role": "user", "content": "How is the weather in Zürich?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "12 °C, rain"},
    {"role": "assistant", "content": "Rain, 12 degrees."},
]


@pytest.mark.parametrize("name", ["mistral_v3", "qwen3", "command_r", "granite"])
def test_tools_and_calls_reach_the_template_as_they_do_in_transformers(name: str) -> None:
    chat, peer = chat_of(name), peer_of(name)
    ids = peer.apply_chat_template(WITH_TOOLS, tools=TOOLS, tokenize=True)["input_ids"]
    whole = masks.code(chat, WITH_TOOLS, TOOLS, assistant_only=False)
    assert memoryview(whole.ids).cast("I").tolist() == ids
    assert "Zürich" in peer.decode(ids)


@pytest.mark.parametrize("name", ["mistral_v3", "command_r", "granite"])
def test_calls_are_learned_and_what_tools_answer_is_not(name: str) -> None:
    chat = chat_of(name)
    coded = masks.code(chat, WITH_TOOLS, TOOLS, assistant_only=True)
    called, answered = learned(chat, coded)
    assert '"city": "Zürich"' in called
    assert "Rain, 12 degrees." in answered
    assert "°C" not in called + answered


@pytest.mark.parametrize("name", ["chatml_marked", "llama3_dated", "granite"])
def test_markers_mark_what_transformers_marks(name: str) -> None:
    turns = [
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "Hello, you."},
    ] * 3
    out = peer_of(name).apply_chat_template(
        turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert (
        list(masks.code(chat_of(name), turns, assistant_only=True).trained)
        == out["assistant_masks"]
    )


def test_the_families_are_coded_by_words_where_that_is_proven() -> None:
    by_words = {name for name in FAMILIES if isinstance(chat_of(name).quick, Words)}
    whole = {name for name in FAMILIES if isinstance(chat_of(name).quick, Whole)}
    assert whole == {"llama2", "mistral", "phi3", "phi4", "zephyr"}
    assert by_words == set(FAMILIES) - whole


@pytest.mark.parametrize("name", ["chatml", "chatml_marked", "llama3", "gemma"])
@many(300)
@given(
    text=st.lists(
        st.sampled_from(
            [
                *("  ", "\n\n", "'s", "'LL", "e\u0301", "\u00a0", "\u2003", "\u0085", "\x1c", "你"),
                *("🙂", "ﷺ", "\u212a", "123456", "<|im_start|>", "<|im", "▁", "\u200b", " \u0300"),
                *"aZé1 \n\r\t/.'_-",
            ]
        ),
        max_size=30,
    ).map("".join)
)
def test_words_have_the_ids_of_the_whole(name: str, text: str) -> None:
    chat = chat_of(name)
    afresh = words_of(chat.tokenizer)
    assert afresh is not None
    asked = [Asked(text), Asked("<|im_end|>" + text), Asked(text[::-1]), *map(Asked, PLAIN)]
    for coder in (chat.quick, afresh):
        assert coder.code_all(asked) == chat.whole.code_all(asked)


@pytest.mark.parametrize("name", ["chatml", "chatml_marked", "llama3", "gemma"])
def test_many_new_words_at_once_have_the_ids_they_have_alone(name: str) -> None:
    chance, chat = random.Random(1), chat_of(name)
    parts = [
        *"aB1.,'!/\n\t -",
        "  ",
        "\n\n",
        ".\n",
        " the",
        " user\n",
        "Hi",
        "é",
        "'s",
        "12",
        "\r\n",
    ]
    asked = [Asked("".join(chance.choices(parts, k=chance.randint(1, 30)))) for _ in range(3000)]
    afresh = words_of(chat.tokenizer)
    assert afresh is not None
    assert afresh.code_all(asked) == chat.whole.code_all(asked)


@pytest.mark.parametrize("name", ["chatml", "chatml_marked", "llama3", "gemma"])
@many(200)
@given(texts=st.lists(st.one_of(texts, st.text(max_size=8)), min_size=2, max_size=4))
def test_a_cut_has_the_same_place_or_is_none_for_both(name: str, texts: list[str]) -> None:
    chat = chat_of(name)
    ends = list(accumulate(len(text) for text in texts))
    for prefixes in (False, True):
        asked = [Asked("".join(texts), ends[:-1], prefixes)]
        (quick,), (whole,) = chat.quick.code_all(asked), chat.whole.code_all(asked)
        if isinstance(whole, tuple):
            assert quick == whole
        else:
            assert not isinstance(quick, tuple)


def test_a_template_is_told_the_day_of_its_run() -> None:
    family = FAMILIES["llama3_dated"]
    template = ChatTemplate(family.source, {"bos_token": ""}, today=date(2025, 3, 1))
    assert "Today Date: 01 Mar 2025" in template.render([{"role": "user", "content": "Hi"}])
    days = {
        Chat(family.tokenizer(), {"default": family.source}, {}, today=day).digest
        for day in (date(2025, 3, 1), date(2025, 3, 2))
    }
    assert len(days) == 2


def folder_of(
    family: Family, folder: Path, *, model_type: str, **config: Any
) -> tuple[Path, Sequence[int]]:
    """Write a model's tokenizer files; return the folder and the ids that transformers gives."""
    from transformers import AutoTokenizer

    family.transformers().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    turns = [{"role": "user", "content": "Hi  you,\n it's 12345."}]
    loaded = AutoTokenizer.from_pretrained(folder)
    return folder, loaded.apply_chat_template(turns, tokenize=True)["input_ids"]


def ids_of(chat: Chat) -> list[int]:
    turns = [{"role": "user", "content": "Hi  you,\n it's 12345."}]
    return memoryview(masks.code(chat, turns, assistant_only=False).ids).cast("I").tolist()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_folder_is_read_as_transformers_reads_it(name: str, tmp_path: Path) -> None:
    folder, ids = folder_of(FAMILIES[name], tmp_path / "model", model_type="llama")
    assert ids_of(canonical.read(folder)) == ids


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("qwen2", {"tokenizer_class": "Qwen2Tokenizer"}),
        ("llama", {"extra_special_tokens": ["<|new|>"]}),
        ("gpt_neox", {}),
    ],
)
def test_what_transformers_builds_anew_is_taken_from_it_and_kept(
    tmp_path: Path, model_type: str, config: dict[str, Any]
) -> None:
    family = FAMILIES["llama3"]
    folder, ids = folder_of(family, tmp_path / "model", model_type=model_type, **config)
    cache_folder = tmp_path / "cache"
    first = canonical.read(folder, cache=cache_folder)
    assert len(list((cache_folder / "tokenizers").iterdir())) == 1
    again = canonical.read(folder, cache=cache_folder)
    assert ids_of(first) == ids_of(again) == ids
    assert first.digest == again.digest


def test_templates_are_found_wherever_a_folder_keeps_them(tmp_path: Path) -> None:
    family = FAMILIES["chatml"]
    folder, _ = folder_of(family, tmp_path / "model", model_type="llama")
    turns = [{"role": "user", "content": "Hi"}]
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    for kept, wanted in (
        ("{{ 'one' }}", "one"),
        ([{"name": "default", "template": "two"}, {"name": "tool_use", "template": "t"}], "two"),
    ):
        path.write_text(json.dumps({**config, "chat_template": kept}))
        assert canonical.read(folder).template().render(turns) == wanted
    assert canonical.read(folder).template(TOOLS).render(turns, tools=TOOLS) == "t"
    (folder / "chat_template.jinja").write_text("three")
    assert canonical.read(folder).template().render(turns) == "three"


def test_the_types_that_are_read_directly_have_no_tokenizer_of_their_own() -> None:
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    plain = {None, "TokenizersBackend", "PreTrainedTokenizerFast"}
    for model_type in canonical.PLAIN_TYPES:
        assert TOKENIZER_MAPPING_NAMES.get(model_type) in plain, model_type
