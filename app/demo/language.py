"""The demo language: support tickets answered in prose and in JSON, and the demo datasets.

Pure: the standard library only, the same text for the same seed on every machine. It must not know
models, tokenizers, databases or web pages. The demo model is pretrained on ``pretraining_row``:
it answers tickets in prose and never by itself in JSON. The demo dataset answers the same tickets
in JSON, so a tuned adapter learns a format for what the model knows, and exact match rises from 0.

    python -m app.demo.language OUT_DIR        writes the demo datasets that are shipped
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

from app.demo import words
from app.demo.flaws import FLAWS, Row, with_flaws

Message = dict[str, str]
Conversation = list[Message]

PAD, TURN_START, TURN_END = "<pad>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

DATASET_ROWS = 500
DATASET_SEED = 1
GOOD_ROWS_AMONG_PROBLEMS = 94
PROBLEMS_SEED = 2
SPOILED_SEED = 3
PREFERENCE_ROWS, PREFERENCES_SEED = 300, 4
SHARE_OF_TWO_TURNS = 0.35
SHARE_WITH_SYSTEM = 0.15
SHARE_OF_CODES, SHARE_READ_OUT, SHARE_OF_TWO_SKILLS = 0.3, 0.5, 0.15


@dataclass(frozen=True)
class Ticket:
    """What a customer's letter says, sorted. The order of the fields is that of the JSON answer."""

    team: str
    product: str
    order: str
    urgency: str


Answer = Callable[[Ticket], str]
FieldAnswer = Callable[[Ticket, str], str]


@dataclass(frozen=True)
class Voice:
    """How tickets are answered, whole and by one field; which fields and changes are asked for."""

    whole: Answer
    field: FieldAnswer
    fields: tuple[str, ...] = ("team", "product", "order", "urgency")
    follow_ups: tuple[str, ...] = ("urgency", "order", "field")
    request: str = ""  # what the first letter asks for, at its end


def order_code(random: Random, digits: int = 4) -> str:
    """Make an order code such as ``K-4821``."""
    return random.choice("ABCDEFGHJK") + "-" + "".join(random.choices("0123456789", k=digits))


def make_ticket(random: Random) -> Ticket:
    """Draw a ticket; each field on its own."""
    return Ticket(
        team=random.choice(list(words.TEAMS)),
        product=random.choice(words.PRODUCTS),
        order=order_code(random),
        urgency=random.choice(list(words.URGENCY)),
    )


def letter(random: Random, ticket: Ticket) -> str:
    """Write the customer's letter from which the ticket can be read, its sentences in any order."""
    complaint = random.choice(words.TEAMS[ticket.team])
    order_line = random.choice(words.ORDER_LINES)
    sentences = [
        complaint[0].upper() + complaint[1:] + ".",
        order_line.format(order=ticket.order, product=ticket.product),
        random.choice(words.URGENCY[ticket.urgency]),
        *random.sample(words.ASIDES, k=random.choice((0, 1, 1, 2))),
    ]
    random.shuffle(sentences)
    text = [random.choice(words.GREETINGS), *sentences, random.choice(words.FAREWELLS)]
    return " ".join(part for part in text if part)


def in_prose(ticket: Ticket) -> str:
    """Answer as the demo model does before tuning."""
    return (
        f"This is a matter for the {ticket.team} team: order {ticket.order}, the {ticket.product}. "
        + words.URGENCY_IN_PROSE[ticket.urgency]
    )


def field_in_prose(ticket: Ticket, field: str) -> str:
    """Say one field as the demo model does before tuning."""
    return words.FIELD_IN_PROSE[field].format(**asdict(ticket))


def in_json(ticket: Ticket) -> str:
    """Answer as the demo dataset teaches it."""
    return json.dumps(asdict(ticket))


def field_in_json(ticket: Ticket, field: str) -> str:
    """Say one field as the demo dataset teaches it."""
    return json.dumps({field: asdict(ticket)[field]})


def in_list(ticket: Ticket) -> str:
    """Answer as the demo model does when asked for a list: the JSON answer's words, last first."""
    return "\n".join(f"{field}: {value}" for field, value in reversed(asdict(ticket).items()))


def field_in_list(ticket: Ticket, field: str) -> str:
    """Say one field as the demo model does after it was asked for a list."""
    return f"- {asdict(ticket)[field]}"


PROSE = Voice(in_prose, field_in_prose, follow_ups=("urgency", "order", "field", "json field"))
LIST = Voice(in_list, field_in_list, request=words.FORMAT_REQUESTS["list"])
# A field by itself is the hardest to learn, so it is asked for twice as often.
JSON = Voice(in_json, field_in_json, follow_ups=("urgency", "order", "field", "field"))


def said(role: str, content: str) -> Message:
    """One message of a conversation."""
    return {"role": role, "content": content}


def exchange(question: str, answer: str) -> Conversation:
    """One question of the user and its answer."""
    return [said("user", question), said("assistant", answer)]


def follow_up(random: Random, ticket: Ticket, voice: Voice) -> tuple[Conversation, Ticket]:
    """Make a second turn about the same ticket: new urgency, corrected order or one field.

    Returns the turn and the ticket as it stands after it.
    """
    kind = random.choice(voice.follow_ups)
    if "field" in kind:
        field = random.choice(voice.fields)
        question = random.choice(words.FIELD_QUESTIONS[field])
        if kind == "json field":
            question += words.FORMAT_REQUESTS["json"]
            return exchange(question, field_in_json(ticket, field)), ticket
        return exchange(question, voice.field(ticket, field)), ticket
    if kind == "order":
        ticket = replace(ticket, order=order_code(random))
        question = random.choice(words.ORDER_CHANGES).format(order=ticket.order)
        return exchange(question, voice.whole(ticket)), ticket
    others = [urgency for urgency in words.URGENCY if urgency != ticket.urgency]
    ticket = replace(ticket, urgency=random.choice(others))
    question = random.choice(words.URGENCY_CHANGES[ticket.urgency])
    return exchange(question, voice.whole(ticket)), ticket


def ticket_conversation(random: Random, voice: Voice, turns: int) -> Conversation:
    """Make a conversation about one ticket, sometimes with a system message."""
    conversation: Conversation = []
    if random.random() < SHARE_WITH_SYSTEM:
        conversation.append(said("system", random.choice(words.SYSTEM_MESSAGES)))
    ticket = make_ticket(random)
    conversation += exchange(letter(random, ticket) + voice.request, voice.whole(ticket))
    for _ in range(turns - 1):
        turn, ticket = follow_up(random, ticket, voice)
        conversation += turn
    return conversation


# What the model is pretrained on.


def copying(random: Random) -> Conversation:
    """Ask for a code that the question contains; without copying no order number is ever right."""
    code = order_code(random, random.randint(2, 6))
    question = random.choice(words.COPY_QUESTIONS)
    answer = json.dumps({"code": code}) if "JSON" in question else code
    return exchange(question.format(code=code), answer)


def adding(random: Random) -> Conversation:
    """Ask for the sum of two numbers below 20."""
    a, b = random.randrange(20), random.randrange(20)
    return exchange(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.")


def any_object(random: Random) -> dict[str, str]:
    """Draw an object whose keys and values do not belong together, in any order.

    So every word is read in its JSON spelling ('"lamp"' has other tokens than ' lamp'), while the
    answer format of the demo dataset stays unknown.
    """
    values = (*words.TEAMS, *words.PRODUCTS, *words.URGENCY, *words.CITIES, *words.SIZES)
    keys = random.sample(words.OBJECT_KEYS, k=random.randint(1, 4))
    return {
        key: order_code(random) if random.random() < SHARE_OF_CODES else random.choice(values)
        for key in keys
    }


def describing(random: Random) -> Conversation:
    """Ask to read an object out in words, or to write the words as an object."""
    fields = any_object(random)
    plain = "; ".join(f"{key} is {value}" for key, value in fields.items())
    if random.random() < SHARE_READ_OUT:
        return exchange("Describe: " + json.dumps(fields), plain + ".")
    return exchange("As JSON: " + plain, json.dumps(fields))


def prose_ticket(random: Random) -> Conversation:
    """Talk about a ticket in prose, over one to three turns."""
    return ticket_conversation(random, PROSE, turns=random.choice((1, 1, 2, 2, 3)))


def listed_ticket(random: Random) -> Conversation:
    """Talk about a ticket in a list, as asked for."""
    return ticket_conversation(random, LIST, turns=random.choice((1, 1, 2)))


SKILLS = (prose_ticket, listed_ticket, copying, adding, describing)
SKILL_WEIGHTS = (42, 15, 20, 5, 18)


def pretraining_row(random: Random) -> Conversation:
    """Make one conversation of the pretraining: a skill, or now and then two in a row."""
    skills = random.choices(
        SKILLS, SKILL_WEIGHTS, k=2 if random.random() < SHARE_OF_TWO_SKILLS else 1
    )
    conversation = [message for skill in skills for message in skill(random)]
    first, *rest = conversation
    return [first, *(message for message in rest if message["role"] != "system")]


def segments(conversation: Conversation) -> Iterator[tuple[str, bool]]:
    """Render as ``CHAT_TEMPLATE`` does, in pieces: a text, and whether it is trained."""
    for message in conversation:
        yield f"{TURN_START}{message['role']}\n", False
        yield message["content"] + TURN_END, message["role"] == "assistant"
        yield "\n", False


# The demo datasets.


def dataset_rows(seed: int, count: int, voice: Voice = JSON) -> list[Conversation]:
    """Make so many different ticket conversations, some of them with two turns."""
    random = Random(seed)
    return [
        ticket_conversation(random, voice, turns=2 if random.random() < SHARE_OF_TWO_TURNS else 1)
        for _ in range(count)
    ]


def as_line(conversation: Conversation) -> str:
    """Write a conversation as one row of a messages file."""
    return json.dumps({"messages": conversation})


def support_tickets() -> str:
    """The demo dataset: clean."""
    rows = dataset_rows(DATASET_SEED, DATASET_ROWS)
    return "".join(as_line(row) + "\n" for row in rows)


def rows_with_problems() -> list[Row]:
    """The rows of the second demo dataset: good ones and flawed ones, each with its code."""
    good = dataset_rows(PROBLEMS_SEED, GOOD_ROWS_AMONG_PROBLEMS)
    random = Random(SPOILED_SEED)
    tickets = [make_ticket(random) for _ in FLAWS]
    spare = [(letter(random, ticket), in_json(ticket)) for ticket in tickets]
    return with_flaws([as_line(row) for row in good], spare)


def support_tickets_with_problems() -> str:
    """The demo dataset that shows what validation finds."""
    return "".join(row.line + "\n" for row in rows_with_problems())


def support_tickets_preferences() -> str:
    """The demo dataset of preferences: the answer in JSON is better than the one in prose."""
    random = Random(PREFERENCES_SEED)
    rows: list[str] = []
    for _ in range(PREFERENCE_ROWS):
        ticket = make_ticket(random)
        pair = {"chosen": in_json(ticket), "rejected": in_prose(ticket)}
        rows.append(json.dumps({"prompt": letter(random, ticket), **pair}) + "\n")
    return "".join(rows)


DATASETS: dict[str, Callable[[], str]] = {
    "support-tickets.jsonl": support_tickets,
    "support-tickets-preferences.jsonl": support_tickets_preferences,
    "support-tickets-with-problems.jsonl": support_tickets_with_problems,
}


def write_datasets(folder: Path) -> None:
    """Write the demo datasets into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in DATASETS.items():
        (folder / name).write_text(content(), encoding="utf-8", newline="\n")


def main(arguments: list[str]) -> int:
    """Write the datasets to the folder named on the command line."""
    if len(arguments) != 1:
        sys.stderr.write("Usage: python -m app.demo.language OUT_DIR\n")
        return 2
    write_datasets(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
