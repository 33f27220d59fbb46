"""A model's chat template: compiled once, in a sandbox, and rendered as Transformers renders it.

Same environment, same variables, same text; where ``{% generation %}`` marks what is learned, the
marked stretches by their characters. Knows neither tokens nor torch nor transformers.
"""

import json
import re
import secrets
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
_MARK = f"\0{secrets.token_hex(8)}"  # no dataset can foresee it
_BEGIN, _END = "[", "]"
# What keeps text to do something with it before it is written.
_CAPTURES = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)


class TemplateRejects(Exception):
    """The model's chat template refuses an example, or its mask cannot be known."""


class _Marking(Extension):
    """``{% generation %}``: writes a mark where its text begins and ends, if marks are asked for."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it
    begin = end = ""

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the block's nodes between two marks, with the scope that a call would give them."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marks = (nodes.Output([self.attr(name)]) for name in ("begin", "end"))
        before, behind = (mark.set_lineno(line) for mark in marks)
        return [before, nodes.Scope(body).set_lineno(line), behind]

    def mark(self, *, asked: bool) -> None:
        """Write marks from now on, or none."""
        self.begin, self.end = (_MARK + _BEGIN, _MARK + _END) if asked else ("", "")


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

    @cached_property
    def _may_capture(self) -> bool:
        """Tell whether marked text may be kept and changed before it is written."""
        tree = self._compiled[0].environment.parse(self.source)
        captures = any(node.find(nodes.ExtensionAttribute) for node in tree.find_all(_CAPTURES))
        return captures or any(loop.recursive for loop in tree.find_all(nodes.For))

    def _strftime(self, form: str) -> str:
        now = utc_now().astimezone()  # the machine's own day, as Transformers has it
        if self._today is not None:
            now = datetime.combine(self._today, now.time(), now.tzinfo)
        return now.strftime(form)

    def render(self, turns: Turns, *, tools: Tools = None, ask: bool = False) -> str:
        """Return the conversation's text; ``ask`` opens an assistant's turn behind it."""
        return self._written(turns, tools, ask=ask, marks=False)

    def render_marked(self, turns: Turns, *, tools: Tools = None) -> tuple[str, list[Span]]:
        """Return the text and the stretches of it that the template marks, by characters."""
        text, spans = _parted(self._written(turns, tools, ask=False, marks=True))
        if spans and self._may_capture and text != self.render(turns, tools=tools):
            raise TemplateRejects(
                "the template changes the text that it marks as learned, "
                "so the tokens to learn cannot be known"
            )
        return text, spans

    def _written(self, turns: Turns, tools: Tools, *, ask: bool, marks: bool) -> str:
        try:
            self._compiled[1].mark(asked=marks)
            return "".join(self._blocks(turns, tools, ask=ask))
        except Exception as error:
            raise _rejection(error) from error

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


def _parted(marked: str) -> tuple[str, list[Span]]:
    """Return a text without its marks, and the stretches between them."""
    first, *others = marked.split(_MARK)
    parts, spans = [first], list[Span]()
    place, start = len(first), None
    for part in others:
        if (part[0] == _BEGIN) != (start is None):
            raise TemplateRejects(
                "the template marks what is learned twice, so the tokens to learn cannot be known"
            )
        if start is None:
            start = place
        else:
            spans.append((start, place))
            start = None
        parts.append(part[1:])
        place += len(part) - 1
    if start is not None:
        raise TemplateRejects("the template marks where a turn to learn begins, and never its end")
    return "".join(parts), spans


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
