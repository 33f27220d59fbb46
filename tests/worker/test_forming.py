"""Batches without padding cost no truth: examples in one row are trained as if each were alone."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from worker.trainer import apart, packing
from worker.trainer.data import IGNORED, Encoded
from worker.trainer.forming import form_of

WINDOW = 8  # shorter than most examples, so that it matters
VOCABULARY = 96
_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # else nobody attends to anything in particular
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": WINDOW},
    "gemma2": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, **_LAYERS},
    "gemma3_text": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, **_LAYERS},
    "phi3": {"sliding_window": WINDOW},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW},
    "qwen3_moe": _EXPERTS,
    "gpt_oss": {"num_local_experts": 4, "sliding_window": WINDOW, **_LAYERS},
}


def build(family: str, **more: Any) -> Any:
    """Return a random model of a family, in 32 bits, training."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**_SHAPE, **more})
    return AutoModelForCausalLM.from_config(config).train()


def adapted(model: Any) -> Any:
    """Put a LoRA adapter on a model, which changes what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    torch.manual_seed(1)
    return get_peft_model(model, lora)


def examples(lengths: Sequence[int] = (21, 3, 14, 1, 8, 9, 30)) -> list[Encoded]:
    """Return examples of random tokens; of each, a random half but never the first is learned."""
    chance = Random(0)
    made = []
    for line, length in enumerate(lengths):
        ids = [chance.randrange(2, VOCABULARY) for _ in range(length)]
        labels = [token if chance.random() < 0.5 else IGNORED for token in ids]
        made.append(Encoded(line, ids, [IGNORED, *labels[1:]]))
    return made


def trained(model: Any, batches: Sequence[dict[str, Any]], learned: int) -> tuple[float, Any]:
    """Return the loss of some batches and the gradients of every weight that is trained."""
    import torch

    loss = 0.0
    for batch in batches:
        found = model(**batch, num_items_in_batch=torch.tensor(learned), use_cache=False).loss
        found.backward()
        loss += found.item()
    gradients = {
        name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return loss, gradients


def check_equal(model: Any, collate: Any) -> None:
    """Assert that a row of all examples trains what each trains alone in transformers' way."""
    some = examples()
    learned = packing.count_trained([some])
    loss, gradients = trained(model, [collate([some[:4], some[4:]])], learned)
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    bare.set_attn_implementation("eager")  # knows windows, limits of scores, sinks
    alone, expected = trained(
        model, [packing.padded([[one]], pad=0) for one in some if one.trained], learned
    )
    assert loss == pytest.approx(alone, abs=1e-6)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        size = max(1.0, expected[name].abs().max().item())  # of its largest entry
        assert (gradient - expected[name]).abs().max().item() <= 1e-6 * size, name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_without_padding_trains_what_its_examples_train_alone(family: str) -> None:
    model = build(family, **FAMILIES[family])
    form = form_of(model, engine="peft", pad=0, device="cpu")
    assert form.name == "by_lengths"
    check_equal(model, form.collate)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_an_adapter_on_checkpointed_layers_is_trained_the_same(family: str) -> None:
    bare = build(family, **FAMILIES[family])
    bare.gradient_checkpointing_enable({"use_reentrant": False})
    bare.enable_input_require_grads()
    model = adapted(bare)
    form = form_of(model, engine="peft", pad=0, device="cpu")
    assert form.name == "by_lengths"
    check_equal(model, form.collate)


def test_a_model_that_will_not_go_by_lengths_gets_a_mask_that_keeps_examples_apart() -> None:
    model = build("stablelm")
    form = form_of(model, engine="peft", pad=0, device="cpu")
    assert form.name == "in_one_row"
    check_equal(model, form.collate)


def test_a_model_that_carries_a_state_along_gets_a_row_for_each_example() -> None:
    model = build("mamba", state_size=4)
    form = form_of(model, engine="peft", pad=0, device="cpu")
    assert form.name == "padded"
    assert len(form.collate([examples()[:3], examples()[3:]])["input_ids"]) == len(examples())
    assert "row of its own" in form.said


def test_trying_a_form_leaves_the_model_as_it_was() -> None:
    import torch

    model = build("llama")
    before = {name: one.clone() for name, one in model.state_dict().items()}
    chance = torch.random.get_rng_state()
    form_of(model, engine="peft", pad=0, device="cpu")
    assert model.training
    assert all(one.grad is None for one in model.parameters())
    assert torch.equal(chance, torch.random.get_rng_state())
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_what_is_generated_stays_as_transformers_generates_it(family: str) -> None:
    import torch

    model = build(family, **FAMILIES[family]).eval()
    model.set_attn_implementation("eager")
    asked = torch.tensor([[0, 0, 0, 5, 9, 7, 3, 8], [4, 6, 11, 2, 13, 17, 19, 23]])
    seen = (asked != 0).long()
    told = {"do_sample": False, "max_new_tokens": 12, "attention_mask": seen}
    expected = model.generate(asked, **told)
    apart.use(model)
    assert torch.equal(model.generate(asked, **told), expected)


def test_several_examples_without_their_lengths_are_refused_not_mixed() -> None:
    model = build("llama")
    apart.use(model)
    batch = packing.in_one_row([examples()])
    with pytest.raises(ValueError, match="without their lengths"):
        model(**batch, use_cache=False)


def test_a_mixing_model_is_noticed() -> None:
    model = build("llama")

    def mixed(examples: Sequence[Sequence[int]]) -> dict[str, Any]:
        import torch

        return {"input_ids": torch.tensor([[token for one in examples for token in one]])}

    assert not apart.keeps_apart(model, mixed)


def test_dropout_of_attention_falls_on_rows_of_many_examples_too() -> None:
    import torch

    model = build("llama", attention_dropout=0.5)
    apart.use(model)
    batch = packing.by_lengths([examples()])
    torch.manual_seed(0)
    one, two = (model(**batch, use_cache=False).loss.item() for _ in range(2))
    assert one != two
