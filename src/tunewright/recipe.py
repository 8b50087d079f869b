"""What a user writes: one YAML file with the sections data, train, gate, deploy and flywheel.

A recipe says what is made and is part of identity; where and how it runs lives in settings. Loading is in
`load_recipe`, which names the line and the nearest known key of a mistake.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunewright.records.base import Record
from tunewright.values import NAME, Json


class SourceSpec(Record):
    """One raw file and how to read its fields."""

    path: str = Field(min_length=1)
    """Relative to --data (or TUNEWRIGHT_DATA), else to the recipe's folder; a glob is allowed."""
    format: Literal["auto", "jsonl", "csv", "parquet"] = "auto"
    prompt_field: str | None = None
    """Column of the user's message for prompt/completion rows; `auto` names are tried when absent."""
    completion_field: str | None = None
    messages_field: str = "messages"
    system: str | None = None
    """A system turn put before every row that has none."""
    group: str | None = None
    """Field whose equal values stay on one side of the split."""
    time: str | None = None
    """Field with an ISO-8601 time or Unix seconds."""
    slices: tuple[str, ...] = ()
    """Fields to report by."""


class QualityRules(Record):
    """Rules made for chat. `null` switches a rule off."""

    min_answer_chars: int | None = 1
    max_chars: int | None = 20_000
    max_repetition: float | None = 0.5
    """Largest share of a text's word 4-grams that are repeats, for texts of 20 words and more."""
    max_symbol_ratio: float | None = 0.6
    """Largest share of characters of a user turn that are neither letters, digits nor spaces."""
    refusals: bool = True
    """Reject answers that refuse or are boilerplate ("As an AI language model ...")."""
    truncated: bool = True
    """Reject answers that end mid-word or with an unclosed code fence or JSON bracket."""
    max_length_ratio: float | None = None
    """Largest answer/prompt length ratio in characters."""
    languages: tuple[str, ...] | None = None
    """ISO 639-1 codes to keep; absent keeps all (needs the `language` extra)."""


class PiiRules(Record):
    """What to mask with typed tags such as <EMAIL_1>, or to drop."""

    action: Literal["mask", "drop", "off"] = "mask"
    secrets: Literal["mask", "drop", "off"] = "drop"
    types: tuple[str, ...] = ("email", "phone", "credit_card", "iban", "ssn", "ip")
    patterns: dict[str, str] = Field(default_factory=dict)
    """User types: name -> regular expression."""
    regions: tuple[str, ...] = ("US", "GB", "DE", "FR")
    """Regions a phone number without country code is tried in."""


class SplitRules(Record):
    """How rows are put aside."""

    held_out: float = Field(default=0.2, gt=0, lt=0.9)
    validation: float = Field(default=0.1, gt=0, lt=0.5)
    salt: str = "0"
    embargo_s: float | None = None
    """With `time_split`: rows this close before the first held-out time are rejected."""
    time_split: bool = False
    """Held-out are the latest rows instead of hashed clusters."""


class DataSection(Record):
    """Raw files to dataset version."""

    sources: tuple[SourceSpec, ...] = Field(min_length=1)
    max_rejected_fraction: float = Field(default=0.05, ge=0, le=1)
    """Share of unreadable or invalid lines above which curation stops."""
    quality: QualityRules = QualityRules()
    pii: PiiRules = PiiRules()
    dedup_threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard of shingles at or above which two prompts are near-duplicates."""
    conflicts: Literal["keep_all", "keep_majority", "quarantine"] = "keep_all"
    """Same prompt with different answers: keep and report, keep the most frequent answer, or reject all."""
    contamination_fpr: float = Field(default=0.01, gt=0, lt=0.5)
    """Declared false-positive rate of the lexical detector on clean pairs."""
    max_rows: int | None = Field(default=None, gt=0)
    """Read only the first rows of each source; for trials."""
    split: SplitRules = SplitRules()


class LoraSettings(Record):
    """The adapter."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["all_linear"] = "all_linear"


class TrainSection(Record):
    """Dataset version to candidate."""

    base: str = Field(default="tiny", min_length=1)
    """`tiny` (shipped), a local folder, or `org/model@revision` from the offline Hugging Face cache."""
    method: Literal["lora", "full"] = "lora"
    lora: LoraSettings = LoraSettings()
    epochs: float = Field(default=3.0, gt=0)
    max_steps: int | None = Field(default=None, gt=0)
    batch_rows: int = Field(default=16, ge=1)
    """Effective batch: rows an optimiser step."""
    micro_tokens: int = Field(default=2048, ge=16)
    """Tokens a packed micro-batch holds at most; halves when memory runs out."""
    max_tokens: int = Field(default=512, ge=8)
    """Longest row; longer rows are truncated from the left of the prompt, never of the answer."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    eval_every_steps: int | None = Field(default=None, ge=1)
    """Validation loss every n steps; default: ten times a run."""
    patience: int | None = Field(default=3, ge=1)
    """Evaluations without improvement before stopping; null never stops early."""
    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    """Default: with every evaluation."""
    keep_checkpoints: int = Field(default=2, ge=1)
    seed: int = 0

    # 16 fields and more belong here: each is a knob of one loop that users of trainers know by name.


class ScorerSpec(Record):
    """One scorer and its settings, such as {kind: json_field, name: item, path: item}."""

    kind: str
    name: str | None = None
    """Metric name; the kind when absent."""
    settings: dict[str, Json] = Field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The name requirements use."""
        return self.name or self.kind


class SuiteSpec(Record):
    """Rows to judge on and how to score them."""

    name: str = "held_out"
    path: str | None = None
    """A named file (JSONL, same forms as data); absent means the sealed held-out rows."""
    scorers: tuple[ScorerSpec, ...] = Field(default=(ScorerSpec(kind="normalised_match"),), min_length=1)
    max_rows: int | None = Field(default=None, gt=0)
    """Judge on a seeded sample of this many rows, by cluster hash."""


class Requirement(Record):
    """One thing that must hold. Exactly one of at_least, better_than, not_worse_than."""

    metric: str
    suite: str = "held_out"
    at_least: float | None = None
    better_than: Literal["base", "few_shot", "nearest_example", "incumbent"] | None = None
    not_worse_than: Literal["base", "few_shot", "nearest_example", "incumbent"] | None = None
    margin: float = Field(default=0.03, ge=0)

    @model_validator(mode="after")
    def _exactly_one(self) -> "Requirement":
        given = [self.at_least is not None, self.better_than is not None, self.not_worse_than is not None]
        if sum(given) != 1:
            raise ValueError("expected exactly one of at_least, better_than, not_worse_than")
        return self


class GateSection(Record):
    """What the candidate must prove."""

    suites: tuple[SuiteSpec, ...] = (SuiteSpec(),)
    require: tuple[Requirement, ...] = ()
    """Empty: the first metric of the first suite must be better_than base and not_worse_than incumbent."""
    required_slices: tuple[str, ...] = ()
    """Slice fields on which every not_worse_than requirement must hold as well, for values with n >= 30."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """One-sided."""
    power: float = Field(default=0.8, gt=0, lt=1)
    few_shot: int = Field(default=4, ge=0)
    """Most examples in the best prompt; 0 switches the arm off. Capped to the base's trained context."""
    max_new_tokens: int = Field(default=96, ge=1)
    max_dirty_fraction: float = Field(default=0.01, ge=0, lt=1)
    """Share of contaminated held-out rows above which the verdict is void."""


class DeploySection(Record):
    """How a passing model takes traffic from the champion."""

    ramp: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 1.0)
    """Shares of users that the candidate answers, stage by stage; the last is 1.0, the promotion."""
    margin: float = Field(default=0.05, gt=0, lt=1)
    """Promotion needs proof that no guardrail is worse by this much."""
    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    """Chance that a candidate without any difference is rolled back; split over the guardrails."""
    promote_alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Chance that a candidate worse by `margin` is promoted."""
    shadow_requests: int = Field(default=200, ge=1)
    """Requests answered by both, shown from the champion only, before the ramp begins."""
    min_units: int = Field(default=275, ge=1)
    """Users a stage must have observed at least."""
    min_stage_s: float = Field(default=0.0, ge=0)
    """Seconds a stage lasts at least."""
    window_s: float = Field(default=60.0, gt=0)
    """Seconds that a user's feedback is waited for."""
    deadline_s: float = Field(default=7 * 86400.0, gt=0)
    """Seconds without a decision after which the rollout is held."""
    hold_s: float = Field(default=86400.0, gt=0)
    """Seconds on hold after which it is rolled back."""
    latency_slack: float = Field(default=0.05, ge=0, lt=1)
    """Rise of the share of answers slower than the champion's p95 that is not yet an alarm."""
    tokens_slack: float = Field(default=0.05, ge=0, lt=1)
    """The same for answers longer than the champion's p95."""
    feedback_required: bool = True
    """Whether promotion needs proof on users' feedback too; false leaves feedback to rolling back only."""
    live_scorers: tuple[ScorerSpec, ...] = ()
    """Rules that need no reference; empty: those of the gate's scorers that need none, such as json_valid."""

    @model_validator(mode="after")
    def _ramp_rises_to_one(self) -> "DeploySection":
        rising = all(low < high for low, high in zip(self.ramp, self.ramp[1:], strict=False))
        if len(self.ramp) < 2 or not rising or self.ramp[0] <= 0 or self.ramp[-1] != 1.0:
            raise ValueError("ramp: expected rising shares that end with 1.0, such as [0.05, 0.25, 1.0]")
        return self


class FlywheelSection(Record):
    """How feedback comes back."""

    author_cap: float = Field(default=0.01, gt=0, le=1)
    """Largest share of a dataset one author's corrections may make."""
    model_answer_cap: float = Field(default=0.3, ge=0, le=1)
    """Largest share of harvested rows whose answer is the model's own, approved by a reviewer."""
    use_harvest: bool = True
    """Whether the next dataset version reads what was harvested for this name."""


class Recipe(Record):
    """The whole file."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    description: str = ""
    data: DataSection
    train: TrainSection = TrainSection()
    gate: GateSection = GateSection()
    deploy: DeploySection = DeploySection()
    flywheel: FlywheelSection = FlywheelSection()
