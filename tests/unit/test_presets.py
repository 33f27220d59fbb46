"""A preset resolves by model, dataset and device, and says why."""

from dataclasses import replace
from itertools import product

import pytest

from app.basemodels.facts import ModelFacts
from app.runs import engines, objectives, presets
from app.runs.objectives import Rows
from app.runs.presets import Case, resolve, steps_of
from app.runs.spec import Preset, RunConfig

DEMO = ModelFacts("LlamaForCausalLM", 128, 4, 1024, 1024, 320, 64, 820_000, True, True)
BIG = ModelFacts(
    "LlamaForCausalLM", 4096, 32, 128_000, 8192, 14_336, 1024, 8_000_000_000, True, False
)
CARD = 24 * 2**30


def config(preset: Preset = Preset.BALANCED, **case: object) -> RunConfig:
    known: dict[str, object] = {"examples": 500, "facts": DEMO, "device_kind": "cpu"}
    return resolve({}, case=Case(preset=preset, **{**known, **case})).config  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("width", "rate"), [(128, 6.4e-3), (2048, 4e-4), (4096, 2e-4), (8192, 1e-4), (64, 1e-2)]
)
def test_the_learning_rate_grows_as_the_width_falls(width: int, rate: float) -> None:
    assert presets.learning_rate_for(replace(DEMO, hidden_size=width)) == rate


def test_the_demo_gets_four_or_five_epochs_on_a_cpu() -> None:
    demo = config()
    assert demo.training.epochs in (4, 5)
    assert demo.training.learning_rate == 6.4e-3
    assert (demo.quantization, demo.engine, demo.training.packing) == ("none", "peft", False)
    steps = steps_of(demo, examples=500)
    assert steps is not None
    assert 200 <= steps <= 300


@pytest.mark.parametrize(
    ("preset", "examples", "epochs"),
    [
        (Preset.QUICK, 5000, 1),
        (Preset.BALANCED, 300, 2),
        (Preset.BALANCED, 5000, 3),
        (Preset.BALANCED, 60_000, 1),
        (Preset.QUALITY, 300, 2),
    ],
)
def test_a_large_model_sees_few_examples_rarely(
    preset: Preset, examples: int, epochs: float
) -> None:
    large = config(preset, examples=examples, facts=BIG, device_kind="cuda", memory_bytes=CARD)
    assert large.training.epochs == epochs


def test_an_nvidia_card_trains_in_four_bits_with_unsloth() -> None:
    large = config(facts=BIG, device_kind="cuda", memory_bytes=CARD)
    assert (large.quantization, large.engine) == ("nf4", "unsloth")
    assert large.training.optimizer == "adamw_8bit"


def test_quality_takes_sixteen_bits_and_dora_where_they_fit() -> None:
    roomy = config(Preset.QUALITY, facts=BIG, device_kind="cuda", memory_bytes=80 * 2**30)
    tight = config(Preset.QUALITY, facts=BIG, device_kind="cuda", memory_bytes=12 * 2**30)
    assert (roomy.quantization, roomy.adapter.use_dora) == ("none", True)
    assert tight.quantization == "nf4"


@pytest.mark.parametrize("preset", list(Preset))
@pytest.mark.parametrize("kind", ["cpu", "cuda", "auto"])
@pytest.mark.parametrize("examples", [2, 499, 12_000, 80_000])
def test_every_value_is_valid_and_has_its_reason(preset: Preset, kind: str, examples: int) -> None:
    for facts in (DEMO, BIG):
        found = resolve({}, case=Case(preset, examples, facts, kind, CARD))
        assert set(found.reasons) == set(presets.flat(found.config))
        assert all(found.reasons.values())
        training = found.config.training
        assert training.batch_size * training.gradient_accumulation == 8


def test_what_a_user_gives_is_never_overruled_and_others_follow_it() -> None:
    given = {"adapter.rank": 64, "training.batch_size": 4, "training.learning_rate": 0.5}
    found = resolve(given, case=Case(Preset.QUICK, 500, DEMO))
    assert found.config.adapter.rank == found.config.adapter.alpha == 64
    assert found.config.training.gradient_accumulation == 2
    assert found.config.training.learning_rate == 0.5
    assert found.reasons["adapter.rank"] == presets.CHOSEN


def test_auto_is_left_to_the_preset() -> None:
    found = resolve({"engine": "auto"}, case=Case(Preset.BALANCED, 500, DEMO))
    assert found.config.engine == "peft"


def test_flat_and_nested_undo_each_other() -> None:
    whole = RunConfig()
    assert RunConfig.model_validate(presets.nested(presets.flat(whole))) == whole


def test_steps_of_a_packed_run_need_the_length_of_examples() -> None:
    packed = config(examples=5000)
    assert packed.training.packing
    assert steps_of(packed, examples=5000) is None
    assert steps_of(packed, examples=5000, mean_tokens=256) is not None


def test_a_named_split_says_what_share_is_held_out() -> None:
    case = Case(Preset.BALANCED, 5000, DEMO, splits={"spl_a": 0.25, "spl_b": 0.8})

    shares = [
        resolve({"data.split": name}, case=case).config.data.validation_fraction
        for name in ("spl_a", "spl_b")
    ]

    assert shares == [0.25, 0.5]


@pytest.mark.parametrize("rows", ["conversations", "pairs", "judged"])
@pytest.mark.parametrize("kind", ["cpu", "cuda", "auto"])
def test_what_a_preset_decides_is_never_refused(kind: str, rows: Rows) -> None:
    for context, preset in product((64, 512, 131_072), Preset):
        facts = replace(DEMO, context_length=context)
        case = Case(preset, 1000, facts, kind, rows=rows)
        for objective in objectives.of_rows(rows):
            found = resolve({"objective": objective}, case=case).config
            assert not objectives.refusals(found), (context, preset, objective)
            assert not engines.refusals(found, device_kind=kind, facts=facts)
