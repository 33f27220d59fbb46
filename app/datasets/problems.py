"""What validation can find: every code with its severity, its plain title and its cure. Pure.

The codes are stable: tests, pages, docs and scripts name them (docs/problems.md lists them all).
Knows no format and not how a problem is found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# So many problems of one code are kept with their line and excerpt; counts are always true.
DETAIL_PER_CODE = 10_000


class Severity(StrEnum):
    """An error makes a row unusable; a warning leaves the decision to the user."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """The name of a kind of problem."""

    NOT_UTF8 = "not_utf8"
    INVALID_JSON = "invalid_json"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_FORMAT = "unknown_format"
    MIXED_FORMATS = "mixed_formats"
    MISSING_MESSAGES = "missing_messages"
    MESSAGES_NOT_A_LIST = "messages_not_a_list"
    EMPTY_MESSAGES = "empty_messages"
    MESSAGE_NOT_AN_OBJECT = "message_not_an_object"
    MISSING_ROLE = "missing_role"
    UNKNOWN_ROLE = "unknown_role"
    MISSING_CONTENT = "missing_content"
    CONTENT_NOT_TEXT = "content_not_text"
    EMPTY_CONTENT = "empty_content"
    SYSTEM_NOT_FIRST = "system_not_first"
    ROLES_DO_NOT_ALTERNATE = "roles_do_not_alternate"
    NO_ASSISTANT_MESSAGE = "no_assistant_message"
    BAD_WEIGHT = "bad_weight"
    MISSING_COLUMN = "missing_column"
    IDENTICAL_PAIR = "identical_pair"
    LINE_TOO_LONG = "line_too_long"
    EMPTY_FILE = "empty_file"
    UNKNOWN_KEY = "unknown_key"
    DUPLICATE_ROW = "duplicate_row"
    NEAR_DUPLICATE = "near_duplicate"
    ENDS_WITHOUT_ASSISTANT = "ends_without_assistant"
    VERY_SHORT_ANSWER = "very_short_answer"
    CONTROL_CHARACTERS = "control_characters"
    SPECIAL_TOKEN_IN_TEXT = "special_token_in_text"  # noqa: S105  # a code, no password
    POSSIBLE_SECRET = "possible_secret"  # noqa: S105  # a code, no password
    PERSONAL_DATA = "personal_data"
    LANGUAGE_OUTLIER = "language_outlier"
    LENGTH_OUTLIER = "length_outlier"
    BLANK_LINE = "blank_line"
    BOM = "bom"
    TOO_LONG = "too_long"
    NO_TRAINED_TOKENS = "no_trained_tokens"
    TEMPLATE_REJECTS_ROW = "template_rejects_row"


@dataclass(frozen=True)
class CodeText:
    """What a code means in plain words, and what to do about it."""

    severity: Severity
    title: str
    cure: str


def _error(title: str, cure: str) -> CodeText:
    return CodeText(Severity.ERROR, title, cure)


def _warning(title: str, cure: str) -> CodeText:
    return CodeText(Severity.WARNING, title, cure)


CATALOGUE: Mapping[Code, CodeText] = {
    Code.NOT_UTF8: _error(
        "Not UTF-8 text",
        "Save the file as UTF-8; an editor or `iconv -t UTF-8` converts it.",
    ),
    Code.INVALID_JSON: _error(
        "Not valid JSON",
        "Write each row with a JSON library, as one object on one line.",
    ),
    Code.NOT_AN_OBJECT: _error(
        "A row that is not an object",
        "Write the row as an object: braces around names and values, as the docs show them.",
    ),
    Code.UNKNOWN_FORMAT: _error(
        "A file that cannot be read as examples",
        "Upload JSON Lines, a JSON list, CSV, TSV or Parquet; docs/datasets.md shows the rows.",
    ),
    Code.MIXED_FORMATS: _error(
        "A row in another format than the rest",
        "Rewrite the row as the others are written, or move it to a file of its own.",
    ),
    Code.MISSING_MESSAGES: _error(
        "A row without messages",
        'Name the list of turns "messages" ("conversations" in ShareGPT), or map its column.',
    ),
    Code.MESSAGES_NOT_A_LIST: _error(
        "Messages are not a list",
        'Write turns as a list of objects: [{"role": …, "content": …}, …]; a history as pairs.',
    ),
    Code.EMPTY_MESSAGES: _error(
        "A conversation without a turn",
        "Add at least a user's turn and the assistant's answer, or leave the row out.",
    ),
    Code.MESSAGE_NOT_AN_OBJECT: _error(
        "A turn that is not an object",
        'Write it as {"role": "user", "content": "…"}; an earlier round as a pair of texts.',
    ),
    Code.MISSING_ROLE: _error(
        "A turn without a role",
        'Add "role" ("from" in ShareGPT): system, user, assistant or tool.',
    ),
    Code.UNKNOWN_ROLE: _error(
        "A role that is not known",
        "Use system, user, assistant or tool, in lower case; ShareGPT has human and gpt too.",
    ),
    Code.MISSING_CONTENT: _error(
        "A turn without content",
        'Add its text ("content", in ShareGPT "value"); only beside tool calls there may be none.',
    ),
    Code.CONTENT_NOT_TEXT: _error(
        "Content that is not text",
        'Write a string, or parts of {"type": "text"} in a turn; leave pictures and sound out.',
    ),
    Code.EMPTY_CONTENT: _error(
        "A turn with nothing in it",
        "Fill in the text, or remove the turn with its answer.",
    ),
    Code.SYSTEM_NOT_FIRST: _error(
        "A system turn that is not the first",
        "Move it to the start of the conversation, joined with the one that is there.",
    ),
    Code.ROLES_DO_NOT_ALTERNATE: _error(
        "Two turns of the same side in a row",
        "Join the two into one or drop the first; a tool answers only after a tool call.",
    ),
    Code.NO_ASSISTANT_MESSAGE: _error(
        "Nothing to learn: no assistant turn",
        "Add the answer, or leave the row out: only assistant turns are trained.",
    ),
    Code.BAD_WEIGHT: _error(
        "A weight that is not allowed",
        "Give assistant turns 0 (not trained) or 1 (trained), and other turns none.",
    ),
    Code.MISSING_COLUMN: _error(
        "A row without a column of its format",
        "Fill the column in, or say under Columns which of the file's columns it is.",
    ),
    Code.IDENTICAL_PAIR: _error(
        "Chosen equals rejected",
        "Replace one of the two answers, or leave the row out: there is no preference in it.",
    ),
    Code.LINE_TOO_LONG: _error(
        "A row above 16 MiB",
        "Split the conversation into several rows; look for a file pasted into it.",
    ),
    Code.EMPTY_FILE: _error(
        "A file without rows",
        "Check the export that wrote it, then upload a file with at least one row.",
    ),
    Code.UNKNOWN_KEY: _warning(
        "A key that is not used",
        "Remove it, put it into metadata, or correct its spelling if it was meant to count.",
    ),
    Code.DUPLICATE_ROW: _warning(
        "A copy of another row",
        "Keep one of them, unless it should weigh more: repeats are learned by heart first.",
    ),
    Code.NEAR_DUPLICATE: _warning(
        "Almost the same as another row",
        "Keep the better of the two; repeats are learned by heart first.",
    ),
    Code.ENDS_WITHOUT_ASSISTANT: _warning(
        "The last turn is not the assistant's",
        "Add the answer, or cut what follows the last one: it is read, not trained.",
    ),
    Code.VERY_SHORT_ANSWER: _warning(
        "A very short last answer",
        "Check that it was not cut off; for labels this is fine.",
    ),
    Code.CONTROL_CHARACTERS: _warning(
        "Control characters in the text",
        "Remove them: they come from terminals and broken exports, and the model learns them.",
    ),
    Code.SPECIAL_TOKEN_IN_TEXT: _warning(
        "A chat template's own token in the text",
        "Remove the marker: the template adds its own when the row is rendered.",
    ),
    Code.POSSIBLE_SECRET: _warning(
        "Looks like a key or password",
        "Mask it in a new version and revoke it at its maker: a model repeats what it has read.",
    ),
    Code.PERSONAL_DATA: _warning(
        "Looks like somebody's address, phone or card number",
        "Mask it in a new version, unless it is made up: a model repeats what it has read.",
    ),
    Code.LANGUAGE_OUTLIER: _warning(
        "In another language than the rest",
        "Check that the row belongs here; leave it if the model is to speak this language too.",
    ),
    Code.LENGTH_OUTLIER: _warning(
        "Far longer than the rest",
        "Look for a file or a log pasted into it; shorten it, or split it into several rows.",
    ),
    Code.BLANK_LINE: _warning(
        "A blank line",
        "Nothing needs to be done: it is skipped, and the cleaned file has none.",
    ),
    Code.BOM: _warning(
        "A byte order mark at the start",
        'Nothing needs to be done: it is skipped. Save as "UTF-8 without BOM" to be rid of it.',
    ),
    Code.TOO_LONG: _warning(
        "Longer than the maximum length in tokens",
        "Raise the maximum length, or shorten the row: what lies behind the end is not trained.",
    ),
    Code.NO_TRAINED_TOKENS: _warning(
        "No token of the row would be trained",
        "Raise the maximum length or give an answer of weight 1; else the row is left out.",
    ),
    Code.TEMPLATE_REJECTS_ROW: _warning(
        "The base model's chat template refuses the row",
        "Rewrite the row as the template wants it, or choose another base model.",
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. ``excerpt[mark_start:mark_end]`` is the spot, where there is one."""

    line: int
    code: Code
    message: str
    excerpt: str = ""
    mark_start: int = 0
    mark_end: int = 0

    @property
    def severity(self) -> Severity:
        """Return whether the row can be used."""
        return CATALOGUE[self.code].severity

    @property
    def hint(self) -> str:
        """Return what to do."""
        return CATALOGUE[self.code].cure

    def as_dict(self) -> dict[str, object]:
        """Return the problem as the API and the command line show it."""
        return {
            "line": self.line,
            "code": self.code.value,
            "severity": self.severity.value,
            "message": self.message,
            "hint": self.hint,
            "excerpt": self.excerpt,
            "mark_start": self.mark_start,
            "mark_end": self.mark_end,
        }
