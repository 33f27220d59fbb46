"""How fast rows become tokens with a mask, beside Transformers row by row in the same run.

python -m tests.benchmarks tokens

Ours reads the file, renders, codes and masks in two processes and writes the cache; the peer is
given the rows already parsed. A second start finds the cache. Each peer figure is of a sample.
"""

import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fixtures.templates.families import FAMILIES
from worker.trainer.filling import Model, tokens_of
from worker.trainer.sources import of_lines

_ROWS = {"short rows": (200_000, 12), "long rows": (50_000, 90)}  # how many, words a turn about
_SAMPLE = 1_000
_VOCABULARY = 30_000
_PROCESSES = 2


def main() -> None:
    """Print rows a second of both, and the seconds of a second start."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # noqa: TID251  # read by the library
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer = _model(folder / "model")
        for title, (count, words) in _ROWS.items():
            _measure(folder, peer, title, count=count, words=words)


def _measure(folder: Path, peer: Any, title: str, *, count: int, words: int) -> None:
    rows = _rows(count, words)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = of_lines(path)
    model = Model(folder / "model", folder / f"cache-{words}")
    first = _seconds(lambda: tokens_of(model, source, assistant_only=True, processes=_PROCESSES))
    again = _seconds(lambda: tokens_of(model, source, assistant_only=True))
    sample = rows[:_SAMPLE]
    theirs = _seconds(lambda: _by_transformers(peer, sample))
    ours, others = count / first, len(sample) / theirs
    print(
        f"{title}: {count:,} of {path.stat().st_size / count:,.0f} bytes\n"
        f"  tokens and masks, {_PROCESSES} processes {ours:10,.0f} rows/s\n"
        f"  Transformers, row by row       {others:10,.0f} rows/s   ({ours / others:.1f} x)\n"
        f"  second start                   {again:10.2f} s"
    )


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _by_transformers(peer: Any, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        peer.apply_chat_template(
            row["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )


def _words() -> list[str]:
    chance = random.Random(1)
    letters = "etaoinshrdlcumwfgypbvk"
    weights = range(len(letters), 0, -1)
    return [
        "".join(chance.choices(letters, weights, k=chance.randint(2, 9)))
        for _ in range(_VOCABULARY)
    ]


def _rows(count: int, words: int) -> list[dict[str, Any]]:
    """Return conversations of two turns whose words are as unlike in number as a language's are."""
    chance, vocabulary = random.Random(2), _words()
    weights = [1 / (place + 3) for place in range(len(vocabulary))]
    flow = iter(chance.choices(vocabulary, weights, k=4 * count * words))

    def text() -> str:
        lines: list[str] = []
        left = chance.randint(words // 2, words + words // 2)
        while left > 0:
            size = min(left, chance.randint(5, 14))
            left -= size
            sentence = " ".join(next(flow) for _ in range(size)).capitalize()
            lines.append(sentence + chance.choice([". ", ", yes. ", "?\n", ".\n\n", "! (1,234) "]))
        return "".join(lines).strip()

    return [
        {"messages": [{"role": role, "content": text()} for role in ("user", "assistant")]}
        for _ in range(count)
    ]


def _model(folder: Path) -> Any:
    """Write a tokenizer of 16,000 tokens with a marked template; return Transformers' own."""
    from tokenizers import AddedToken, Tokenizer, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES["chatml_marked"]
    like = json.loads(FAMILIES["llama3"].tokenizer().to_str())
    like["model"]["vocab"], like["model"]["merges"], like["added_tokens"] = {}, [], []
    bare = Tokenizer.from_str(json.dumps(like))
    special = [AddedToken(one, special=True, normalized=False) for one in family.special]
    trainer = trainers.BpeTrainer(
        vocab_size=16_000, special_tokens=special, show_progress=False, min_frequency=2
    )
    rows = _rows(4000, 60)
    bare.train_from_iterator([turn["content"] for row in rows for turn in row["messages"]], trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token=family.eos, chat_template=family.source
    )
    made.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return made


if __name__ == "__main__":
    main()
