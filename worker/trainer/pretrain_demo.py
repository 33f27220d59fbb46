"""Pretrains the demo model: a tokenizer and a Llama of about a million parameters, from nothing.

    python -m worker.trainer.pretrain_demo OUT_DIR [--seconds N --hidden 128 --layers 4 --rows N]
    python -m worker.trainer.pretrain_demo OUT_DIR --start MODEL_DIR     goes on from a made model

Its text is ``app.demo.language`` alone. The result is what ``app/demo/model`` ships; it is not
needed to run the product. Runs on the CPU or the first CUDA card, whose speed decides how much text
is seen in the given seconds, so two results are never byte for byte the same. More is not better:
past a loss of about 1e-3 on answers the model holds on to its prose, and tuning it gets slower.
Must not know jobs, databases or the network.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.demo.language import (
    CHAT_TEMPLATE,
    JSON,
    PAD,
    PROSE,
    TURN_END,
    TURN_START,
    Conversation,
    Voice,
    dataset_rows,
    pretraining_row,
    segments,
)

VOCABULARY = 1024
TOKENIZER_ROWS = 8_000
MAX_POSITIONS = 1024
HEAD_WIDTH = 32
WINDOW = 256  # tokens of a training sequence; longer text works less well
BATCH = {"cpu": 8, "cuda": 128}
ROWS = {"cpu": 60_000, "cuda": 250_000}
PEAK_LEARNING_RATE = 3e-3
WARMUP_STEPS = 100
REPORT_EVERY = 500
CHECK_SEED, CHECK_ROWS, CHECK_TOKENS = 99, 200, 56
IGNORED = -100


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path
    seconds: float
    hidden: int
    layers: int
    rows: int
    seed: int
    start: Path | None
    peak: float
    device: str


@dataclass(frozen=True)
class Corpus:
    """All tokens in one row, what of them is learned, and where conversations begin."""

    tokens: torch.Tensor
    labels: torch.Tensor
    starts: torch.Tensor


@dataclass(frozen=True)
class Outcome:
    """What pretraining came to; goes into the model card."""

    parameters: int
    steps: int
    tokens: int
    loss: float
    seconds: float
    prose: float
    json: float


def train_tokenizer(rows: list[Conversation]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; digits stay apart so that codes can be copied."""
    bpe = Tokenizer(models.BPE())
    bpe.decoder = decoders.ByteLevel()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ("\n".join(message["content"] for message in row) for row in rows[:TOKENIZER_ROWS])
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=TURN_END,
        pad_token=PAD,
        additional_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_POSITIONS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, rows: list[Conversation], *, device: str) -> Corpus:
    """Tokenise all conversations; only answers and their end tokens are learned."""
    pieces = [list(segments(row)) for row in rows]
    flat = [text for row in pieces for text, _ in row]
    encoded = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    tokens: list[int] = []
    labels: list[int] = []
    starts: list[int] = []
    for row in pieces:
        starts.append(len(tokens))
        for _, trained in row:
            ids = next(encoded)
            tokens += ids
            labels += ids if trained else [IGNORED] * len(ids)
    fitting = [start for start in starts if start + WINDOW <= len(tokens)]
    return Corpus(*(torch.tensor(part, device=device) for part in (tokens, labels, fitting)))


def new_model(tokenizer: PreTrainedTokenizerFast, *, hidden: int, layers: int) -> LlamaForCausalLM:
    """Make the untrained model."""
    heads = max(1, hidden // HEAD_WIDTH)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        vocab_size=VOCABULARY,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def begin(
    options: Options, rows: list[Conversation]
) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    """Make tokenizer and model anew, or load those to go on from, in 32 bits."""
    if options.start:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(options.start)
        model = LlamaForCausalLM.from_pretrained(options.start, dtype=torch.float32)
    else:
        tokenizer = train_tokenizer(rows)
        model = new_model(tokenizer, hidden=options.hidden, layers=options.layers)
    return tokenizer, model.to(options.device)


def learning_rate(step: int, *, peak: float, progress: float) -> float:
    """Rise over the first steps, then fall in a line to two hundredths of the peak."""
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * max(0.02, 1 - progress)


def pretrain(model: LlamaForCausalLM, corpus: Corpus, options: Options) -> tuple[int, float]:
    """Train for the given seconds; returns the steps and the mean loss of the last hundred."""
    batch = BATCH[options.device]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    generator = torch.Generator().manual_seed(options.seed)
    span = torch.arange(WINDOW, device=options.device)
    recent: list[torch.Tensor] = []
    began, step, progress = time.monotonic(), 0, 0.0
    model.train()
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=options.peak, progress=progress)
        drawn = torch.randint(len(corpus.starts), (batch,), generator=generator)
        at = corpus.starts[drawn.to(options.device)][:, None] + span
        with torch.autocast(options.device, torch.bfloat16, enabled=options.device == "cuda"):
            loss = model(input_ids=corpus.tokens[at], labels=corpus.labels[at]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        progress = (time.monotonic() - began) / options.seconds
        recent = [*recent[-99:], loss.detach()]
        if step % REPORT_EVERY == 0:
            sys.stdout.write(f"step {step} loss {loss.item():.4f}, {progress:.0%} of the time\n")
            sys.stdout.flush()
    return step, torch.stack(recent).mean().item()


@torch.no_grad()
def exact_match(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, voice: Voice
) -> float:
    """Share of new conversations whose last answer the model gives to the letter."""
    rows = dataset_rows(CHECK_SEED, CHECK_ROWS, voice)
    prompts = [
        tokenizer.apply_chat_template(row[:-1], tokenize=False, add_generation_prompt=True)
        for row in rows
    ]
    inputs = tokenizer(
        prompts,
        return_tensors="pt",
        padding=True,
        add_special_tokens=False,
        return_token_type_ids=False,
    ).to(model.device)
    output = model.eval().generate(**inputs, max_new_tokens=CHECK_TOKENS)
    answers = tokenizer.batch_decode(
        output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    right = [answer == row[-1]["content"] for answer, row in zip(answers, rows, strict=True)]
    return sum(right) / len(right)


CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# Tunebox demo model

A Llama of {parameters:,} parameters ({layers} layers, width {hidden}, {vocabulary} tokens, bf16),
made from nothing for Tunebox's own demo: tuning it takes about a minute on two CPU cores. It is
useless for anything else.

## Text and training
Its only text is the made-up language of `app/demo/language.py`: letters to a shop's help desk with
answers in prose, copying codes, sums below 40, and small JSON objects read out or written down.
No web text, no personal data, no other model's output. `worker/trainer/pretrain_demo.py` trained it
for {seconds:.0f} s on {device}: {steps:,} steps, {millions:.1f} million tokens, loss on the
answers at the end {loss:.4f}.
Sequences had {window} tokens; {positions} positions are allowed.

## What it can and cannot
It sorts a letter by team, product, order and urgency, and says so in prose, over up to three turns.
It writes JSON only when the question says JSON, and never a ticket as JSON: that is left to tuning.
It knows nothing of the world.

## Measured
{checks} new letters, greedy decoding, the answer right to the letter:

| answer wanted | right |
|---|---|
| in prose, as pretrained | {prose:.3f} |
| in JSON, as the demo dataset has it | {json:.3f} |

License: Apache-2.0, as Tunebox itself.
"""


def card(options: Options, outcome: Outcome) -> str:
    """Write the model card."""
    return CARD.format(
        parameters=outcome.parameters,
        layers=options.layers,
        hidden=options.hidden,
        vocabulary=VOCABULARY,
        device="one GPU" if options.device == "cuda" else "the CPU",
        steps=outcome.steps,
        millions=outcome.tokens / 1e6,
        seconds=outcome.seconds,
        loss=outcome.loss,
        window=WINDOW,
        positions=MAX_POSITIONS,
        checks=CHECK_ROWS,
        prose=outcome.prose,
        json=outcome.json,
    )


def run(options: Options) -> Outcome:
    """Make the text, the tokenizer and the model, measure the model and write all of it."""
    torch.manual_seed(options.seed)
    random = Random(options.seed)
    rows = [pretraining_row(random) for _ in range(options.rows)]
    tokenizer, model = begin(options, rows)
    corpus = encode(tokenizer, rows, device=options.device)
    began = time.monotonic()
    steps, loss = pretrain(model, corpus, options)
    seconds = time.monotonic() - began
    model.to(torch.bfloat16).save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    model.float()  # measured with the weights as saved, computed as on a CPU
    outcome = Outcome(
        parameters=model.num_parameters(),
        steps=steps,
        tokens=steps * BATCH[options.device] * WINDOW,
        loss=loss,
        seconds=seconds,
        prose=exact_match(model, tokenizer, voice=PROSE),
        json=exact_match(model, tokenizer, voice=JSON),
    )
    (options.out / "README.md").write_text(card(options, outcome), encoding="utf-8")
    return outcome


def parse(arguments: list[str]) -> Options:
    """Read the command line."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description="Pretrain Tunebox's demo model.")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--seconds", type=float, default=35 if device == "cuda" else 600)
    parser.add_argument("--hidden", type=int, default=128, help="width, a multiple of 32")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=ROWS[device], help="conversations to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="folder of a made model to go on from")
    parser.add_argument("--peak", type=float, default=PEAK_LEARNING_RATE, help="learning rate")
    options = parser.parse_args(arguments)
    return Options(**vars(options), device=device)


def main(arguments: list[str]) -> int:
    """Pretrain and print what came of it as one line of JSON."""
    outcome = run(parse(arguments))
    sys.stdout.write(json.dumps(outcome.__dict__) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
