"""A model's chat template: compiled once, in a sandbox, and rendered as Transformers renders it.

Same environment, same variables, same text; where ``{% generation %}`` marks what is learned, the
marked stretches by their characters. Knows neither tokens nor torch nor transformers.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.kit.clock import utc_now

Span = tuple[int, int]
Turns = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]] | None

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


class TemplateRejects(Exception):
    """The model's chat template refuses an example, or its mask cannot be known."""


class _Marking(Extension):
    """``{% generation %}``: remembers where its text begins and ends while a template renders."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def __init__(self, environment: ImmutableSandboxedEnvironment) -> None:
        super().__init__(environment)
        self.blocks: list[str] = []
        self.marked: list[tuple[int, str]] = []

    def parse(self, parser: Parser) -> nodes.Node:
        """Turn the block into a call of ``_mark`` with its text."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Any) -> str:
        text = str(caller())
        self.marked.append((sum(map(len, self.blocks)), text))
        return text


class ChatTemplate:
    """One template. ``variables`` are the special tokens by name, as a template expects them.

    ``today`` is what a template that asks for the date is told; None is the real day. Text that
    depends on the day would otherwise change between a run's start and its resumption.
    """

    def __init__(
        self, source: str, variables: Mapping[str, str], *, today: date | None = None
    ) -> None:
        self.source = source
        self.has_markers = bool(_MARKER.search(source))
        self.asks_for_date = "strftime_now" in source
        self._variables, self._today = dict(variables), today

    @cached_property
    def _compiled(self) -> tuple[Template, _Marking, dict[str, Any]]:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Marking, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _refuse, "strftime_now": self._strftime}
        marking = environment.extensions[_Marking.identifier]
        assert isinstance(marking, _Marking)
        template = environment.from_string(self.source)
        return template, marking, dict(template.globals)

    def _strftime(self, form: str) -> str:
        now = utc_now().astimezone()  # the machine's own day, as Transformers has it
        if self._today is not None:
            now = datetime.combine(self._today, now.time(), now.tzinfo)
        return now.strftime(form)

    def render(self, turns: Turns, *, tools: Tools = None, ask: bool = False) -> str:
        """Return the conversation's text; ``ask`` opens an assistant's turn behind it."""
        try:
            return "".join(self._blocks(turns, tools, ask=ask))
        except Exception as error:
            raise _rejection(error) from error

    def render_marked(self, turns: Turns, *, tools: Tools = None) -> tuple[str, list[Span]]:
        """Return the text and the stretches of it that the template marks, by characters."""
        try:
            _, marking, _ = self._compiled
            marking.blocks, marking.marked = [], []
            for block in self._blocks(turns, tools, ask=False):
                marking.blocks.append(block)
            text = "".join(marking.blocks)
        except Exception as error:
            raise _rejection(error) from error
        return text, _spans(text, marking.marked)

    def _blocks(self, turns: Turns, tools: Tools, *, ask: bool) -> Iterator[str]:
        template, _, shared = self._compiled
        given = {
            **shared,
            "messages": turns,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": ask,
            **self._variables,
        }
        # As template.new_context does, which takes longer than many a template.
        context = Context(template.environment, given, template.name, template.blocks)
        return template.root_render_func(context)


def _spans(text: str, marked: Sequence[tuple[int, str]]) -> list[Span]:
    """Return the marked stretches, once it is sure that they lie where the template was then.

    A marker within a macro or a captured block is told before its text is in its place.
    """
    spans = [(start, start + len(part)) for start, part in marked]
    ends = [0, *(end for _, end in spans)]
    for (start, end), before, (_, part) in zip(spans, ends, marked, strict=False):
        if start < before or text[start:end] != part:
            raise TemplateRejects(
                "the template marks what is learned within a macro, "
                "so the tokens to learn cannot be known"
            )
    return spans


def _rejection(error: Exception) -> TemplateRejects:
    return TemplateRejects(f"{type(error).__name__}: {error}")


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _tojson(  # noqa: PLR0917  # as transformers has it
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  # templates pass it by place too
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
