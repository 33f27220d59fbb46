"""What a template marks as learned is found in its text, or refused."""

import pytest

from worker.trainer.templates import ChatTemplate, TemplateRejects

TALK = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


def test_what_a_macro_marks_is_found_where_it_is_written() -> None:
    template = (
        "{% macro turn(m) %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endmacro %}"
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] }}{{ ' > ' + turn(m) }}{% endfor %}"
    )
    text, spans = ChatTemplate(template, {}).render_marked(TALK)
    assert [text[start:end] for start, end in spans] == [turn["content"] for turn in TALK]


@pytest.mark.parametrize(
    ("template", "why"),
    [
        pytest.param(
            "{% set kept %}{% generation %}{{ '  ' + messages[1]['content'] }}{% endgeneration %}"
            "{% endset %}{{ kept | trim }}",
            "changes the text that it marks",
            id="changed after it was marked",
        ),
        pytest.param(
            "{% generation %}{{ messages[0]['content'] }}{% generation %}"
            "{{ messages[1]['content'] }}{% endgeneration %}{% endgeneration %}",
            "marks what is learned twice",
            id="marked twice",
        ),
        pytest.param(
            "{% for m in messages %}{% generation %}{{ m['content'] }}{% break %}"
            "{% endgeneration %}{% endfor %}",
            "never its end",
            id="left before the mark's end",
        ),
    ],
)
def test_a_mark_whose_place_cannot_be_known_is_refused(template: str, why: str) -> None:
    with pytest.raises(TemplateRejects, match=why):
        ChatTemplate(template, {}).render_marked(TALK)


def test_what_is_set_within_a_mark_is_not_known_behind_it() -> None:
    template = (
        "{% set name = 'outer' %}{% generation %}{% set name = 'inner' %}{{ name }}"
        "{% endgeneration %}, {{ name }}"
    )
    assert ChatTemplate(template, {}).render_marked(TALK) == ("inner, outer", [(0, 5)])
