"""A model's tokenizer and chat templates as one thing: what turns conversations into tokens.

Built on `tokenizers` and a sandboxed template; where it comes from is ``canonical``'s business.
"""

import hashlib
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

from worker.trainer.coding import Coder, Whole, prepare, prepared
from worker.trainer.templates import ChatTemplate, TemplateRejects, Tools
from worker.trainer.words import words_of

_DEFAULT, _WITH_TOOLS = "default", "tool_use"


class Chat:
    """How one model writes conversations. Immutable, but for what its coders remember.

    ``templates`` by name, usually one named default; ``special`` are the special tokens by name;
    ``today`` is the day a template is told; ``digest`` names the tokenizer's files, if it has any.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        templates: Mapping[str, str],
        special: Mapping[str, str],
        *,
        today: date | None = None,
        digest: str = "",
    ) -> None:
        self.tokenizer = prepare(tokenizer)
        self.special, self._tokenizer_digest = dict(special), digest
        self._templates = {
            name: ChatTemplate(source, special, today=today) for name, source in templates.items()
        }
        self._today = today or date.today()  # noqa: DTZ011  # as the template tells it

    @cached_property
    def whole(self) -> Whole:
        """Codes single texts."""
        return Whole(self.tokenizer)

    @cached_property
    def quick(self) -> Coder:
        """Codes many texts, with the same result."""
        return words_of(self.tokenizer) or self.whole

    def template(self, tools: Tools = None) -> ChatTemplate:
        """Return the template for a conversation with or without tools."""
        if tools and _WITH_TOOLS in self._templates:
            return self._templates[_WITH_TOOLS]
        if _DEFAULT in self._templates:
            return self._templates[_DEFAULT]
        if not self._templates:
            raise TemplateRejects("the model has no chat template")
        names = ", ".join(sorted(self._templates))
        raise TemplateRejects(f"none of the model's chat templates is its default: {names}")

    @cached_property
    def digest(self) -> str:
        """Names everything that ids depend on: tokenizer, templates, and the day if it is told."""
        told = hashlib.sha256(self._tokenizer_digest.encode())
        for name, template in sorted(self._templates.items()):
            told.update(f"\0{name}\0{template.source}\0{sorted(self.special.items())}".encode())
            if template.asks_for_date:
                told.update(self._today.isoformat().encode())
        return told.hexdigest()


_made: WeakKeyDictionary[Any, tuple[Any, Chat]] = WeakKeyDictionary()


def chat_of(tokenizer: Any) -> Chat:
    """Return what codes as a tokenizer of transformers does; a ``Chat`` is returned as it is."""
    if isinstance(tokenizer, Chat):
        return tokenizer
    template = tokenizer.chat_template
    known = _made.get(tokenizer)
    if known is None or known[0] != template:
        backend: Tokenizer = tokenizer.backend_tokenizer
        chat = Chat(prepared(backend), named(template), tokenizer.special_tokens_map)
        known = _made[tokenizer] = (template, chat)
    return known[1]


def named(template: Any) -> dict[str, str]:
    """Return the templates by name, whichever way a tokenizer's configuration lists them."""
    if isinstance(template, str):
        return {_DEFAULT: template} if template else {}
    if isinstance(template, Mapping):
        return {str(name): str(source) for name, source in template.items()}
    return {str(one["name"]): str(one["template"]) for one in template or ()}
