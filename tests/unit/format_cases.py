"""Rows of each format: good ones with their conversation, and every fault under its code."""

from typing import Any

from app.datasets.problems import Code

ASKED, ANSWER = "What is one and one?", "One and one is two."
USER, TOLD = {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWER}
SYSTEM = {"role": "system", "content": "You reckon."}
HUMAN, GPT = {"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWER}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 1}}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "2"}
PARTS = [{"type": "text", "text": "What is one "}, {"type": "text", "text": "and one?"}]

# Format → name of the case → a row without a fault, and what a chat template gets of it.
GOOD: dict[str, dict[str, tuple[dict[str, Any], list[dict[str, Any]] | None]]] = {
    "messages": {
        "two turns": ({"messages": [USER, TOLD]}, [USER, TOLD]),
        "parts of text": ({"messages": [{**USER, "content": PARTS}, TOLD]}, [USER, TOLD]),
        "other names of roles": (
            {
                "messages": [
                    {"role": "developer", "content": "You reckon."},
                    USER,
                    {"role": "assistant", "function_call": CALL["function"]},
                    {"role": "function", "name": "add", "content": "2"},
                    TOLD,
                ]
            },
            [SYSTEM, USER, CALLING, {**RESULT, "name": "add"}, TOLD],
        ),
        "tool calls": (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": "", "tool_calls": [CALL]},
                    {**RESULT, "tool_call_id": "c1"},
                    TOLD,
                ],
                "tools": [{"type": "function"}],
            },
            [USER, CALLING, {**RESULT, "tool_call_id": "c1"}, TOLD],
        ),
        "a text beside a call": (
            {"messages": [USER, {**TOLD, "tool_calls": [CALL]}, RESULT, TOLD]},
            [USER, {**TOLD, "tool_calls": [CALL]}, RESULT, TOLD],
        ),
        "weights, free keys": (
            {"messages": [{**USER, "id": 1}, {**TOLD, "weight": 0}, USER, TOLD], "source": "x"},
            [USER, {**TOLD, "weight": 0}, USER, TOLD],
        ),
    },
    "sharegpt": {
        "two turns": ({"conversations": [HUMAN, GPT]}, [USER, TOLD]),
        "role and content": ({"conversations": [USER, TOLD]}, [USER, TOLD]),
        "from and content": (
            {"conversations": [{"from": "user", "content": ASKED}, {**GPT, "from": "bing"}]},
            [USER, TOLD],
        ),
        "one conversation": (
            {"conversation": [HUMAN, {**GPT, "weight": 1}]},
            [USER, {**TOLD, "weight": 1}],
        ),
        "a system column": (
            {"system": "You reckon.", "conversations": [HUMAN, GPT], "id": "a"},
            [SYSTEM, USER, TOLD],
        ),
        "an empty system column": ({"system": "", "conversations": [HUMAN, GPT]}, [USER, TOLD]),
        "a system turn": (
            {"conversations": [{"from": "system", "value": "You reckon."}, HUMAN, GPT]},
            [SYSTEM, USER, TOLD],
        ),
        "a function call": (
            {
                "conversations": [
                    HUMAN,
                    {
                        "from": "function_call",
                        "value": '{"name": "add", "arguments": {"a": 1, "b": 1}}',
                    },
                    {"from": "observation", "value": "2"},
                    GPT,
                ],
                "tools": "[]",
            },
            [USER, CALLING, RESULT, TOLD],
        ),
        "two calls at once": (
            {
                "conversations": [
                    HUMAN,
                    {"from": "function_call", "value": '[{"name": "a"}, {"name": "b"}]'},
                    {"from": "function_response", "value": "2"},
                    {"from": "tool", "value": "2"},
                    GPT,
                ]
            },
            [
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"type": "function", "function": {"name": "a"}},
                        {"type": "function", "function": {"name": "b"}},
                    ],
                },
                RESULT,
                RESULT,
                TOLD,
            ],
        ),
        "a call in words": (
            {
                "conversations": [
                    HUMAN,
                    {"from": "function_call", "value": "add 1 and 1"},
                    RESULT,
                    GPT,
                ]
            },
            [USER, {"role": "assistant", "content": "add 1 and 1"}, RESULT, TOLD],
        ),
    },
    "alpaca": {
        "an instruction": ({"instruction": ASKED, "output": ANSWER}, [USER, TOLD]),
        "an empty input": ({"instruction": ASKED, "input": "", "output": ANSWER}, [USER, TOLD]),
        "nothing else": (
            {
                "instruction": ASKED,
                "input": None,
                "output": ANSWER,
                "system": None,
                "history": None,
            },
            [USER, TOLD],
        ),
        "an input": (
            {"instruction": "Add.", "input": "1 and 1", "output": ANSWER},
            [{"role": "user", "content": "Add.\n1 and 1"}, TOLD],
        ),
        "all in the input": ({"instruction": "", "input": ASKED, "output": ANSWER}, [USER, TOLD]),
        "history and system": (
            {
                "instruction": ASKED,
                "output": ANSWER,
                "history": [["Hello there!", "Hello to you!"], ["Can you add?", "I can, yes."]],
                "system": "You reckon.",
            },
            [
                SYSTEM,
                {"role": "user", "content": "Hello there!"},
                {"role": "assistant", "content": "Hello to you!"},
                {"role": "user", "content": "Can you add?"},
                {"role": "assistant", "content": "I can, yes."},
                USER,
                TOLD,
            ],
        ),
    },
    "prompt_completion": {
        "texts": ({"prompt": ASKED, "completion": ANSWER}, [USER, TOLD]),
        "a system": (
            {"prompt": ASKED, "completion": ANSWER, "system": "You reckon."},
            [SYSTEM, USER, TOLD],
        ),
        "lists": (
            {"prompt": [SYSTEM, USER], "completion": [{**TOLD, "weight": 1}]},
            [SYSTEM, USER, {**TOLD, "weight": 1}],
        ),
        "a list and a text": ({"prompt": [USER], "completion": ANSWER}, [USER, TOLD]),
        "tools in the answer": (
            {"prompt": ASKED, "completion": [CALLING, RESULT, TOLD]},
            [USER, CALLING, RESULT, TOLD],
        ),
    },
    "preference": {
        "texts": ({"prompt": ASKED, "chosen": ANSWER, "rejected": "It is three."}, None),
        "no prompt": ({"chosen": ANSWER, "rejected": "It is three."}, None),
        "lists": (
            {"prompt": [USER], "chosen": [TOLD], "rejected": [{**TOLD, "content": "It is three."}]},
            None,
        ),
        "a prompt within the lists": (
            {"chosen": [USER, TOLD], "rejected": [USER, {**TOLD, "content": "It is three."}]},
            None,
        ),
        "a prompt within and beside": (
            {
                "prompt": ASKED,
                "chosen": [USER, TOLD],
                "rejected": [USER, {**TOLD, "content": "It is three."}],
                "system": "You reckon.",
            },
            None,
        ),
        "a label": ({"prompt": ASKED, "completion": ANSWER, "label": True}, None),
        "a label in a table": ({"prompt": [USER], "completion": [TOLD], "label": "False"}, None),
    },
}

PAIR = {"prompt": ASKED, "chosen": ANSWER, "rejected": "It is three."}
ALPACA = {"instruction": ASKED, "output": ANSWER}
LABELLED = {"prompt": ASKED, "completion": ANSWER, "label": True}


def turns(*listed: Any) -> dict[str, Any]:
    return {"conversations": list(listed)}


# Format → code → rows that have it.
FAULTS: dict[str, dict[Code, list[dict[str, Any]]]] = {
    "messages": {
        Code.MISSING_MESSAGES: [{}, {"text": "Hi"}],
        Code.UNKNOWN_ROLE: [{"messages": [{"role": "gpt", "content": "Hello there"}]}],
    },
    "sharegpt": {
        Code.MISSING_MESSAGES: [{}, {"system": "You reckon."}],
        Code.MESSAGES_NOT_A_LIST: [{"conversations": "Hi"}, {"conversation": None}],
        Code.EMPTY_MESSAGES: [turns()],
        Code.MESSAGE_NOT_AN_OBJECT: [turns("Hi", GPT), turns([HUMAN], GPT)],
        Code.MISSING_ROLE: [turns({"value": "Hi"}, GPT), turns({"from": None, "value": "Hi"}, GPT)],
        Code.UNKNOWN_ROLE: [
            turns({"from": "bot", "value": ANSWER}),
            turns({**HUMAN, "from": "Human"}, GPT),
            turns({**HUMAN, "from": 5}, GPT),
        ],
        Code.MISSING_CONTENT: [turns({"from": "human"}, GPT), turns({**HUMAN, "value": None}, GPT)],
        Code.CONTENT_NOT_TEXT: [
            turns({**HUMAN, "value": 5}, GPT),
            {**turns(HUMAN, GPT), "system": 5},
            turns({**HUMAN, "value": [{"type": "image"}]}, GPT),
        ],
        Code.EMPTY_CONTENT: [
            turns({**HUMAN, "value": " "}, GPT),
            turns(HUMAN, {**GPT, "value": ""}),
        ],
        Code.SYSTEM_NOT_FIRST: [
            turns(HUMAN, {"from": "system", "value": "x"}, GPT),
            {**turns({"from": "system", "value": "x"}, HUMAN, GPT), "system": "You reckon."},
        ],
        Code.ROLES_DO_NOT_ALTERNATE: [
            turns(HUMAN, HUMAN, GPT),
            turns(HUMAN, GPT, GPT),
            turns(HUMAN, {"from": "observation", "value": "2"}, GPT),
        ],
        Code.NO_ASSISTANT_MESSAGE: [turns(HUMAN)],
        Code.BAD_WEIGHT: [turns(HUMAN, {**GPT, "weight": 2}), turns({**HUMAN, "weight": 0}, GPT)],
        Code.UNKNOWN_KEY: [turns({**HUMAN, "mood": 1}, GPT), {**turns(HUMAN, GPT), "stars": 5}],
        Code.ENDS_WITHOUT_ASSISTANT: [turns(HUMAN, GPT, HUMAN)],
        Code.VERY_SHORT_ANSWER: [turns(HUMAN, {**GPT, "value": "Two."})],
    },
    "alpaca": {
        Code.MISSING_COLUMN: [
            {},
            {"instruction": ASKED},
            {"input": "1 1", "output": ANSWER},
            {"instruction": ASKED, "response": ANSWER},
        ],
        Code.MISSING_CONTENT: [{**ALPACA, "output": None}, {**ALPACA, "instruction": None}],
        Code.CONTENT_NOT_TEXT: [
            {**ALPACA, "output": 2},
            {**ALPACA, "input": ["1", "1"]},
            {**ALPACA, "input": 5},
            {**ALPACA, "instruction": {"text": ASKED}},
            {**ALPACA, "system": {}},
            {**ALPACA, "history": [["Hello there!", 5]]},
        ],
        Code.EMPTY_CONTENT: [
            {**ALPACA, "instruction": "\n"},
            {**ALPACA, "output": " "},
            {**ALPACA, "instruction": "", "input": " "},
            {**ALPACA, "history": [["", "Hello to you!"]]},
        ],
        Code.MESSAGES_NOT_A_LIST: [{**ALPACA, "history": "Hello"}, {**ALPACA, "history": {"a": 1}}],
        Code.MESSAGE_NOT_AN_OBJECT: [
            {**ALPACA, "history": ["Hello", "Hi"]},
            {**ALPACA, "history": [["Hello"]]},
        ],
        Code.UNKNOWN_KEY: [{**ALPACA, "text": "x"}],
        Code.VERY_SHORT_ANSWER: [{**ALPACA, "output": "Two."}],
    },
    "prompt_completion": {
        Code.MISSING_COLUMN: [{}, {"prompt": ASKED}, {"completion": ANSWER}, {"text": "x"}],
        Code.MISSING_CONTENT: [{"prompt": None, "completion": ANSWER}],
        Code.CONTENT_NOT_TEXT: [{"prompt": ASKED, "completion": 2}],
        Code.EMPTY_CONTENT: [{"prompt": "", "completion": ANSWER}],
        Code.EMPTY_MESSAGES: [{"prompt": [], "completion": ANSWER}],
        Code.MESSAGE_NOT_AN_OBJECT: [{"prompt": ["Hi"], "completion": ANSWER}],
        Code.MISSING_ROLE: [{"prompt": [{"content": "Hi"}], "completion": ANSWER}],
        Code.UNKNOWN_ROLE: [{"prompt": [{"role": "bot", "content": "x"}], "completion": ANSWER}],
        Code.ROLES_DO_NOT_ALTERNATE: [
            {"prompt": [USER, TOLD], "completion": ANSWER},
            {"prompt": [USER], "completion": [USER, TOLD]},
        ],
        Code.SYSTEM_NOT_FIRST: [
            {"prompt": [USER], "completion": [SYSTEM, TOLD]},
            {"system": "x", "prompt": [SYSTEM, USER], "completion": [TOLD]},
        ],
        Code.NO_ASSISTANT_MESSAGE: [{"prompt": [USER, TOLD], "completion": [USER]}],
        Code.BAD_WEIGHT: [{"prompt": [USER], "completion": [{**TOLD, "weight": 7}]}],
        Code.ENDS_WITHOUT_ASSISTANT: [{"prompt": [USER], "completion": [TOLD, USER]}],
        Code.UNKNOWN_KEY: [{"prompt": ASKED, "completion": ANSWER, "label": "billing"}],
        Code.VERY_SHORT_ANSWER: [{"prompt": ASKED, "completion": "Two."}],
    },
    "preference": {
        Code.MISSING_COLUMN: [
            {},
            {"prompt": ASKED},
            {"prompt": ASKED, "chosen": ANSWER},
            {"rejected": ANSWER},
            {"completion": ANSWER, "label": True},
            {"prompt": ASKED, "label": True},
            {"prompt": ASKED, "completion": ANSWER},
            {**LABELLED, "label": 5},
            {**LABELLED, "label": None},
            {"chosen": [USER, TOLD], "rejected": [{**USER, "content": "Who?"}, TOLD]},
        ],
        Code.IDENTICAL_PAIR: [
            {**PAIR, "rejected": ANSWER},
            {"chosen": [USER, TOLD], "rejected": [USER, TOLD]},
            {**PAIR, "chosen": [TOLD], "rejected": [{**TOLD, "id": 5}]},
        ],
        Code.MISSING_CONTENT: [{**PAIR, "chosen": None}, {**LABELLED, "completion": None}],
        Code.CONTENT_NOT_TEXT: [{**PAIR, "rejected": 2}, {**PAIR, "prompt": 2}],
        Code.EMPTY_CONTENT: [{**PAIR, "chosen": ""}, {**LABELLED, "prompt": " "}],
        Code.EMPTY_MESSAGES: [{**PAIR, "rejected": []}],
        Code.MESSAGE_NOT_AN_OBJECT: [{**PAIR, "chosen": ["x"]}],
        Code.MISSING_ROLE: [{**PAIR, "chosen": [{"content": "x"}]}],
        Code.UNKNOWN_ROLE: [{**PAIR, "chosen": [USER, {"role": "bot", "content": ANSWER}]}],
        Code.ROLES_DO_NOT_ALTERNATE: [{**PAIR, "rejected": [TOLD, TOLD]}],
        Code.NO_ASSISTANT_MESSAGE: [{"chosen": [USER], "rejected": [USER, TOLD]}],
        Code.BAD_WEIGHT: [{**PAIR, "chosen": [{**TOLD, "weight": 7}]}],
        Code.ENDS_WITHOUT_ASSISTANT: [{**PAIR, "chosen": [TOLD, USER]}],
        Code.UNKNOWN_KEY: [{**PAIR, "score_chosen": 5}],
        Code.VERY_SHORT_ANSWER: [{**PAIR, "rejected": "Three."}],
    },
}
