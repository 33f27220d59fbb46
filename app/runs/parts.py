"""What a piece of a spec is, and the pieces that some objectives alone read. Pure.

Field descriptions are the help texts of the form. Which objective reads what is said by
``objectives``; what rewards mean by ``rewards``.
"""

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A frozen piece of a spec; unknown fields are refused; infinities are no numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Preference(Part):
    """How preferences are learned, where the objective learns any."""

    beta: float = Field(
        default=0.1,
        gt=0,
        le=100,
        description="DPO, KTO: how firmly the model is held to what it was. ORPO: weight of the "
        "odds ratio beside the loss of the better answer.",
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="DPO: share of the pairs that are taken to be the wrong way round.",
    )
    desirable_weight: float = Field(
        default=1.0, gt=0, le=100, description="KTO: weight of the loss of good answers."
    )
    undesirable_weight: float = Field(
        default=1.0, gt=0, le=100, description="KTO: weight of the loss of bad answers."
    )


class Sampling(Part):
    """How answers are tried out, where the objective rewards the model's own."""

    num_generations: int = Field(
        default=8, ge=2, le=64, description="Answers to each prompt, compared with each other."
    )
    max_completion_length: int = Field(
        default=256, ge=1, le=32_768, description="Tokens that such an answer may have."
    )
    temperature: float = Field(
        default=1.0, gt=0, le=2, description="How freely it answers; below 1 more surely."
    )
    beta: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="How firmly the model is held to what it was; 0: not at all, and faster.",
    )


class Rewards(Part):
    """What an answer is worth: weights of functions that say something from 0 to 1."""

    exact_match: float = Field(
        default=1.0, ge=0, le=100, description="Weight of saying just what is expected, normalised."
    )
    token_f1: float = Field(
        default=0.0, ge=0, le=100, description="Weight of sharing words with what is expected."
    )
    regex: float = Field(
        default=0.0, ge=0, le=100, description="Weight of having the pattern in it."
    )
    pattern: str | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="A regular expression to be found in the answer.",
    )
    json_schema: float = Field(
        default=0.0, ge=0, le=100, description="Weight of being JSON that the schema takes."
    )
    schema_text: str | None = Field(
        default=None, min_length=1, max_length=20_000, description="The JSON schema, as JSON."
    )
    length: float = Field(
        default=0.0, ge=0, le=100, description="Weight of having as many words as it should."
    )
    fewest_words: int = Field(default=1, ge=0, le=100_000, description="Words, at the least.")
    most_words: int = Field(default=100, ge=1, le=100_000, description="Words, at most.")
