"""What our trainer is measured against: Unsloth under TRL's trainer, set as its notebooks set it.

    python -m tests.gpu.baseline make DIR 1b|8b           write a random-weight Llama, tokenizer
    python -m tests.gpu.baseline run DIR packed|unpacked  train 16 steps, print one line

Random weights cost what trained ones cost: speed and memory carry over, loss does not.
"""

import itertools
import json
import os
import random
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # noqa: TID251  # read when the libraries load
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")  # noqa: TID251  # as above

# hidden, inner, layers, heads, key-value heads, vocabulary
SIZES = {
    "tiny": (256, 688, 4, 4, 2, 2048),
    "1b": (2048, 8192, 16, 32, 8, 128256),
    "8b": (4096, 14336, 32, 32, 8, 128256),
}
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\n' }}{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STEMS = "the of and to in is was for on with as by at from it an be this that are"
ENDINGS = "ing er ed tion ly ness al ive ous ment able ful est ity ize ward like wise"
WORDS = [stem + ending for stem in STEMS.split() for ending in ENDINGS.split()]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS, SKIPPED = 24, 8
ROWS = 4000  # packed, an epoch is longer than STEPS
BATCH, ACCUMULATION, MAX_LENGTH = 2, 4, 2048
SEED = 42


def rows(count: int, *, longest: int = 900) -> list[dict[str, Any]]:
    """Return chat rows of about 276 tokens, log-normal."""
    chance = random.Random(0)
    found: list[dict[str, Any]] = []
    for _ in range(count):
        asked = max(8, int(chance.lognormvariate(4.0, 0.7)))
        answered = min(max(8, int(chance.lognormvariate(4.9, 0.8))), longest)
        turns = [
            {"role": "user", "content": " ".join(chance.choices(WORDS, k=asked))},
            {"role": "assistant", "content": " ".join(chance.choices(WORDS, k=answered))},
        ]
        found.append({"messages": turns})
    return found


def make(folder: Path, size: str) -> None:
    """Write a random-weight Llama of a size, with a ChatML tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    hidden, inner, layers, heads, key_value, vocabulary = SIZES[size]
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bare.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        eos_token="<|im_end|>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
        model_max_length=8192,
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        rope_theta=500000.0,  # pyright: ignore[reportCallIssue]
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder, max_shard_size="4GB")


def rows_in_order(tokenizer: Any, *, packing: bool) -> dict[str, list[Any]]:
    """Return our trainer's rows in its order, in TRL's columns: both then train equal batches."""
    from worker.trainer.data import Example, encode
    from worker.trainer.plan import alone, order_of_epoch, pack

    examples = [Example(line, row["messages"]) for line, row in enumerate(rows(ROWS), start=1)]
    encoded = [encode(tokenizer, example, assistant_only=False) for example in examples]
    filled = pack(encoded, max_length=MAX_LENGTH) if packing else alone(encoded)
    ordered = [filled[place] for place in order_of_epoch(0, rows=len(filled), seed=SEED)]
    columns = {"input_ids": [[token for one in row for token in one.ids] for row in ordered]}
    if packing:
        columns["seq_lengths"] = [[len(one.ids) for one in row] for row in ordered]
    return columns


def run(folder: Path, variant: str) -> None:
    """Train by Unsloth and TRL alone, and print speed and peak memory."""
    from unsloth import FastLanguageModel  # isort: skip  # must be there before transformers is
    import torch
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    model, tokenizer = FastLanguageModel.from_pretrained(
        str(folder),
        max_seq_length=MAX_LENGTH,
        dtype=torch.bfloat16,
        load_in_4bit=True,
        local_files_only=True,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=16,
        target_modules=TARGETS,
        lora_alpha=16,
        lora_dropout=0,
        bias="none",
        use_gradient_checkpointing="unsloth",
        random_state=SEED,
    )
    batches = rows_in_order(tokenizer, packing=variant == "packed")
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows(ROWS)]
    marks: list[tuple[float, int]] = []
    largest = 0

    class Measured(SFTTrainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(range(len(batches["input_ids"])))

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal largest
            largest = max(largest, inputs["input_ids"].numel())
            return super().compute_loss(model, inputs, *args, **kwargs)

    class Marks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            torch.cuda.synchronize()
            marks.append((time.time(), state.num_input_tokens_seen))

    trainer = Measured(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"text": texts}),
        callbacks=[Marks()],
        args=SFTConfig(
            output_dir="/tmp/baseline",
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=ACCUMULATION,
            max_steps=STEPS,
            learning_rate=2e-4,
            logging_steps=1,
            optim="adamw_8bit",
            bf16=True,
            report_to="none",
            save_strategy="no",
            seed=SEED,
            max_length=MAX_LENGTH,
            dataset_text_field="text",
            packing=variant == "packed",
            gradient_checkpointing=False,
            include_num_input_tokens_seen="non_padding",
        ),
    )
    trainer.train_dataset = Dataset.from_dict(batches)
    torch.cuda.reset_peak_memory_stats()
    trainer.train()
    seconds = [after[0] - before[0] for before, after in itertools.pairwise(marks[SKIPPED - 1 :])]
    tokens = (marks[-1][1] - marks[SKIPPED - 1][1]) / len(seconds)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    figures = {
        "tokens_per_second": tokens / median(seconds),
        "tokens_per_step": tokens,
        "step_seconds": [round(one, 3) for one in seconds],
        "largest_batch_tokens": largest,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "losses": losses[:3],
    }
    print("RESULT", json.dumps(figures))


if __name__ == "__main__":
    {"make": make, "run": run}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
