"""The text of an exported run below its CONFIG. Pure; see ``script``."""

BODY = r'''
import hashlib
import json
import math
import os
import random
import re
import sys
from bisect import bisect_left, insort
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.nn.functional import dropout, scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers.masking_utils import sdpa_mask

MODEL, DATASET = Path(sys.argv[1]), Path(sys.argv[2])
TRAINING, ADAPTER = CONFIG["training"], CONFIG["adapter"]
SEED, LENGTH, IGNORED = TRAINING["seed"], TRAINING["max_length"], -100
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if TRAINING["deterministic"]:
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)

# Rows, with the names and parts of turns that chat templates know
ROLES = {"developer": "system", "function": "tool"}


def conversation(messages):
    turns = []
    for turn in messages:
        role, text = ROLES.get(turn["role"], turn["role"]), turn.get("content") or ""
        if isinstance(text, list):
            text = "".join(part["text"] for part in text if part.get("type") == "text")
        names = ("name", "tool_calls", "tool_call_id", "weight")
        kept = {name: turn[name] for name in names if turn.get(name) is not None}
        if role == "assistant" and not kept.get("tool_calls") and turn.get("function_call"):
            kept["tool_calls"] = [{"type": "function", "function": turn["function_call"]}]
        text = None if role == "assistant" and kept.get("tool_calls") and not text else text
        turns.append({"role": role, "content": text, **kept})
    return turns


rows, excluded = [], set(CONFIG["excluded_lines"])
for number, line in enumerate(DATASET.open("rb"), start=1):
    if line.strip() and number not in excluded:
        row = json.loads(line.decode("utf-8-sig"))
        rows.append((number, conversation(row["messages"]), row.get("tools") or None))

# Tokens and labels, by the model's own chat template
tokenizer = AutoTokenizer.from_pretrained(MODEL)
MARKED = re.search(r"\{%-?\s*generation\s*-?%\}", str(tokenizer.chat_template)) is not None


def encode(messages, tools):
    def render(turns, **options):
        return tokenizer.apply_chat_template(
            turns, tools=tools, tokenize=True, return_dict=True, **options
        )

    turns = [{k: v for k, v in turn.items() if k != "weight"} for turn in messages]
    if not TRAINING["assistant_only_loss"]:
        ids = list(render(turns)["input_ids"])
        return ids, [IGNORED, *ids[1:]]
    if MARKED:
        out = render(turns, return_assistant_tokens_mask=True)
        ids, mask = list(out["input_ids"]), list(out["assistant_masks"])
    else:
        ids = list(render(turns)["input_ids"])
        mask = [0] * len(ids)
        for place, turn in enumerate(turns):
            if turn["role"] == "assistant":
                before = list(render(turns[:place], add_generation_prompt=True)["input_ids"])
                after = list(render(turns[: place + 1])["input_ids"])
                if ids[: len(after)] != after or after[: len(before)] != before:
                    raise ValueError("the tokens to learn cannot be known")
                mask[len(before) : len(after)] = [1] * (len(after) - len(before))
    weights = [turn.get("weight", 1) for turn in messages if turn["role"] == "assistant"]
    if 0 in weights:
        turn, inside = -1, False
        for place, learned in enumerate(mask):
            turn += bool(learned) and not inside
            inside = bool(learned)
            if learned and weights[turn] == 0:
                mask[place] = 0
    labels = [token if learned else IGNORED for token, learned in zip(ids, mask)]
    return ids, [IGNORED, *labels[1:]]


examples = []
for number, messages, tools in rows:
    try:
        examples.append((number, messages, *encode(messages, tools)))
    except Exception as error:
        if not CONFIG["leave_out_refused"]:
            raise ValueError(f"line {number} cannot be trained") from error


# The rows with the smallest hashes are held out; equal rows go the same way
def row_hash(messages):
    content = json.dumps(messages, sort_keys=True, ensure_ascii=True)
    mixed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "little")
    mixed = (mixed + (SEED + 1) * 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return mixed ^ (mixed >> 31)


wanted = round(len(examples) * CONFIG["validation_fraction"])
if CONFIG["validation_fraction"] > 0 and len(examples) > 1:
    wanted = min(max(wanted, 1), len(examples) - 1)
hashes = {number: row_hash(messages) for number, messages, _, _ in examples}
ordered = sorted(hashes, key=hashes.get)
edges = [at for at in range(1, len(ordered)) if hashes[ordered[at]] != hashes[ordered[at - 1]]]
if wanted and edges:
    wanted = min(edges, key=lambda edge: abs(edge - wanted))
held_out = set(ordered[:wanted])

train_set, validation = [], []
for number, _, ids, labels in examples:
    example = (ids[:LENGTH], labels[:LENGTH], number)
    if any(label != IGNORED for label in example[1]):
        (validation if number in held_out else train_set).append(example)

# Rows of the batches: examples alone, or several in a row
units = [[example] for example in train_set]
if TRAINING["packing"]:
    units, room = [], []
    for example in sorted(train_set, key=lambda example: (-len(example[0]), example[2])):
        place = bisect_left(room, (len(example[0]), -1))
        left, unit = room.pop(place) if place < len(room) else (LENGTH, len(units))
        if unit == len(units):
            units.append([])
        units[unit].append(example)
        insort(room, (left - len(example[0]), unit))

# The model
kind = TRAINING["precision"]
if kind == "auto":
    kind = "bfloat16" if DEVICE == "cuda" else "float32"
dtype = getattr(torch, kind)
nf4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=dtype,
)
torch.manual_seed(SEED)
model = AutoModelForCausalLM.from_pretrained(
    MODEL,
    dtype=dtype,
    device_map={"": 0} if DEVICE == "cuda" else None,
    quantization_config=nf4 if CONFIG["quantization"] == "nf4" else None,
    attn_implementation="sdpa",
)
twice = TRAINING["gradient_checkpointing"]
twice = DEVICE == "cuda" if twice == "auto" else twice
if CONFIG["quantization"] == "nf4":
    model = prepare_model_for_kbit_training(
        model,
        use_gradient_checkpointing=twice,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
elif twice:
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
torch.manual_seed(SEED)
model = get_peft_model(
    model,
    LoraConfig(
        r=ADAPTER["rank"],
        lora_alpha=ADAPTER["alpha"],
        lora_dropout=ADAPTER["dropout"],
        target_modules=ADAPTER["target_modules"],
        use_dora=ADAPTER["use_dora"],
        use_rslora=ADAPTER["use_rslora"],
        init_lora_weights="pissa" if ADAPTER["init"] == "pissa" else True,
        bias="none",
        task_type="CAUSAL_LM",
    ),
)


# Attention: in a row of several examples each sees itself alone
def within(length, window):
    place = torch.arange(length, device=DEVICE)
    back = place[:, None] - place[None, :]
    return (back >= 0) & (back < window)


def one(query, key, value, seen, *, causal, drop, scale, softcap, sinks):
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1 and (seen is not None or softcap is not None or sinks is not None):
        key, value = (part.repeat_interleave(repeats, dim=1) for part in (key, value))
    if softcap is None and sinks is None:
        grouped = query.shape[1] != key.shape[1]
        options = {"dropout_p": drop, "is_causal": causal, "scale": scale, "enable_gqa": grouped}
        return scaled_dot_product_attention(query, key, value, attn_mask=seen, **options)
    scores = query @ key.transpose(2, 3) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    seen = within(query.shape[2], query.shape[2]) if causal else seen
    if seen is not None:
        least = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~seen, least) if seen.dtype == torch.bool else scores + seen
    tokens = scores.shape[-1]
    if sinks is not None:
        sinks = sinks.to(scores.dtype).reshape(1, -1, 1, 1)
        scores = torch.cat([scores, sinks.expand(*scores.shape[:-1], 1)], dim=-1)
    shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)[..., :tokens]
    return dropout(shares, p=drop, training=drop > 0) @ value


def attend(module, query, key, value, mask, dropout=0.0, scaling=None, **given):
    window, lengths = given.get("sliding_window"), given.get("example_lengths")
    options = {
        "drop": dropout,
        "scale": query.shape[-1] ** -0.5 if scaling is None else scaling,
        "softcap": given.get("softcap"),
        "sinks": given.get("s_aux"),
    }
    if torch.is_autocast_enabled("cuda"):
        kind = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    if lengths is None:
        causal = mask is None and query.shape[2] > 1
        found = one(query, key, value, mask, causal=causal, **options)
        return found.transpose(1, 2).contiguous(), None
    found = []
    for part in zip(*(heads.split(list(lengths), dim=2) for heads in (query, key, value))):
        length = part[0].shape[2]
        near = window is not None and length > window
        seen = within(length, window) if near else None
        found.append(one(*part, seen, causal=not near, **options))
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register("apart", attend)
AttentionMaskInterface.register("apart", sdpa_mask)


def keeps_apart():
    """Tell whether an example is the same to the model beside another one."""
    model.eval()
    logits = []
    for first in (7, 11):
        ids = [(place * first + 3) % tokens for place in range(12)]
        ids += [(place * 5 + 3) % tokens for place in range(12)]
        batch = {
            "input_ids": torch.tensor([ids], device=DEVICE),
            "position_ids": torch.tensor([[*range(12), *range(12)]], device=DEVICE),
            "example_lengths": (12, 12),
        }
        with torch.no_grad():
            logits.append(model(**batch, use_cache=False).logits[0, -12:].float())
    model.train()
    noise = 1e-4 if dtype == torch.float32 else 2e-2
    size = (logits[0] - logits[0].mean(-1, keepdim=True)).norm()
    return bool((logits[0] - logits[1]).norm() <= noise * size)


tokens = model.get_input_embeddings().weight.shape[0]
model.get_base_model().set_attn_implementation("apart")
try:
    in_one_row = keeps_apart()
except (TypeError, ValueError, RuntimeError):
    in_one_row = False
if not in_one_row:
    model.get_base_model().set_attn_implementation("sdpa")


def noisy(module, _inputs, output):
    if not module.training or TRAINING["neftune_alpha"] is None:
        return output
    size = TRAINING["neftune_alpha"] / (output.shape[-2] * output.shape[-1]) ** 0.5
    return output + torch.empty_like(output).uniform_(-size, size)


model.get_input_embeddings().register_forward_hook(noisy)
weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
groups = [
    {"params": [w for w in weights if w.ndim > 1], "weight_decay": TRAINING["weight_decay"]},
    {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
]
groups = [group for group in groups if group["params"]]
if DEVICE == "cuda" and TRAINING["optimizer"] != "adamw":
    from bitsandbytes.optim import AdamW8bit

    optimizer = AdamW8bit(groups, lr=TRAINING["learning_rate"])
else:
    optimizer = torch.optim.AdamW(groups, lr=TRAINING["learning_rate"], fused=DEVICE == "cuda")

# Batches and the learning rate
pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
batch_size = TRAINING["batch_size"]
rows_in_step = batch_size * TRAINING["gradient_accumulation"]
steps_in_epoch = -(-len(units) // rows_in_step)
total = TRAINING["max_steps"] or max(1, math.ceil(TRAINING["epochs"] * steps_in_epoch))
warmup = math.ceil(total * TRAINING["warmup_ratio"])


def table(lists, fill):
    width = max(len(entry) for entry in lists)
    filled = [[*entry, *[fill] * (width - len(entry))] for entry in lists]
    return torch.tensor(filled, device=DEVICE)


def collate(chosen):
    ids = [example[0] for unit in chosen for example in unit]
    labels = [example[1] for unit in chosen for example in unit]
    if not in_one_row:
        there = table([[1] * len(entry) for entry in ids], 0)
        batch = {"input_ids": table(ids, pad), "labels": table(labels, IGNORED)}
        return {**batch, "attention_mask": there}
    places = [at for entry in ids for at in range(len(entry))]
    return {
        "input_ids": table([[token for entry in ids for token in entry]], pad),
        "position_ids": table([places], 0),
        "labels": table([[label for entry in labels for label in entry]], IGNORED),
        "example_lengths": tuple(len(entry) for entry in ids),
    }


def losses(chosen):
    """Yield the loss of each batch; together they are the mean over all learned tokens."""
    learned = sum(label != IGNORED for unit in chosen for example in unit for label in example[1])
    learned = torch.tensor(learned, device=DEVICE)
    for start in range(0, len(chosen), batch_size):
        batch = collate(chosen[start : start + batch_size])
        enabled = DEVICE == "cuda" and dtype == torch.bfloat16
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=enabled):
            yield model(**batch, num_items_in_batch=learned, use_cache=False).loss


def learning_rate(step):
    if step < warmup:
        return TRAINING["learning_rate"] * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    if TRAINING["scheduler"] == "cosine":
        return TRAINING["learning_rate"] * 0.5 * (1 + math.cos(math.pi * done))
    return TRAINING["learning_rate"] * (1 - done if TRAINING["scheduler"] == "linear" else 1)


# Steps
every = CONFIG["evaluate_every"] or max(1, round(total / 10))
best, worse = None, 0
torch.manual_seed(SEED)
for step in range(total + 1):
    if validation and (step % every == 0 or step == total):
        model.eval()
        with torch.no_grad():
            loss = sum(loss.item() for loss in losses([[example] for example in validation]))
        print(json.dumps({"step": step, "eval/loss": loss}), flush=True)
        better = step > 0 and (best is None or loss < best)
        best, worse = (loss, 0) if better else (best, worse + (step > 0))
        if better and CONFIG["patience"]:
            model.save_pretrained("adapter")
    early = CONFIG["patience"] and worse >= CONFIG["patience"]
    if step == total or early:
        break
    model.train()
    epoch, place = divmod(step, steps_in_epoch)
    order = list(range(len(units)))
    random.Random(f"{SEED}/{epoch}").shuffle(order)
    summed = torch.zeros((), device=DEVICE)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step)
    chosen = order[place * rows_in_step : (place + 1) * rows_in_step]
    for loss in losses([units[i] for i in chosen]):
        loss.backward()
        summed += loss.detach()
    torch.nn.utils.clip_grad_norm_(weights, TRAINING["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    print(json.dumps({"step": step + 1, "train/loss": summed.item()}), flush=True)
if not early:
    model.save_pretrained("adapter")
'''
