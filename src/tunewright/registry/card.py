"""A model card in the form the Hugging Face hub reads: front matter, what it is, how it was judged. Pure."""

from collections.abc import Sequence

from tunewright.core.references import get_record
from tunewright.ports import Records
from tunewright.records import Check, DatasetVersion, EvalReport, ModelVersion, TrainingRun
from tunewright.values import Ref


def card(ref: Ref, records: Records) -> str:
    """Read a model's records and write its card. Raises UnknownReference."""
    model = get_record(records, ModelVersion, ref)
    return model_card(
        model,
        get_record(records, TrainingRun, model.run),
        get_record(records, DatasetVersion, model.dataset),
        get_record(records, EvalReport, model.evaluation),
    )


def model_card(model: ModelVersion, run: TrainingRun, dataset: DatasetVersion, report: EvalReport) -> str:
    """Write the card as Markdown.

    Args:
        model: the version described.
        run: how it was trained.
        dataset: on what.
        report: how it was judged.
    """
    parts = [_front_matter(model, run), _intro(model, run), _verdict(model, report), _checks(report.checks)]
    parts += [_data(dataset), _training(run), _proof(model)]
    return "\n\n".join(parts) + "\n"


def _front_matter(model: ModelVersion, run: TrainingRun) -> str:
    library = "transformers" if run.method == "full" else "peft"
    tags = [run.method, "tunewright"]
    lines = [
        "---",
        f"base_model: {_quoted(model.base.name)}",
        f"library_name: {library}",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in tags),
        f"model_name: {_quoted(str(model.ref))}",
        "---",
    ]
    return "\n".join(lines)


def _intro(model: ModelVersion, run: TrainingRun) -> str:
    kind = "A full fine-tune" if run.method == "full" else "An adapter"
    return (
        f"# {model.ref}\n\n{kind} of base `{model.base.name}` (`{model.base.digest[:12]}`), version "
        f"{model.semantic_version}, registered {model.created_at:%Y-%m-%d %H:%M} UTC."
    )


def _verdict(model: ModelVersion, report: EvalReport) -> str:
    lines = [f"## Verdict: {report.verdict}", *(f"- {_plain(reason)}" for reason in report.reasons)]
    if model.waiver is not None:
        lines.append(
            f"- **Waived** by {_plain(model.waiver.author)} on {model.waiver.at:%Y-%m-%d}: "
            f"{_plain(model.waiver.reason)}"
        )
    lines.append(f"- Judged at look {report.look} of this held-out set ({report.held_out[:12]}).")
    return "\n".join(lines)


def _checks(checks: Sequence[Check]) -> str:
    head = "| check | estimate | interval | margin | n | method | verdict |\n|---|---|---|---|---|---|---|"
    rows = [
        f"| {_cell(check.name)} | {_number(check.estimate)} | {_number(check.low)} to {_number(check.high)} "
        f"| {_number(check.margin)} | {check.n} | {_cell(check.method)} | {check.verdict} |"
        for check in checks
    ]
    return "\n".join(["## Checks", "", head, *rows])


def _data(dataset: DatasetVersion) -> str:
    splits = ", ".join(f"{name} {info.rows}" for name, info in dataset.splits.items())
    removed = ", ".join(f"{reason} {count}" for reason, count in sorted(dataset.removed.items())) or "none"
    sources = [
        f"- `{s.path}` (`{s.digest[:12]}`): {s.rows_kept} of {s.rows_in} rows" for s in dataset.sources
    ]
    return "\n".join(
        [
            f"## Data: {dataset.ref}",
            "",
            f"{dataset.rows_kept} of {dataset.rows_in} rows kept ({splits}). Removed: {removed}.",
            "",
            *sources,
        ]
    )


def _training(run: TrainingRun) -> str:
    names = ("learning_rate", "epochs", "batch_rows", "precision")
    settings = ", ".join(f"{name} {run.settings[name]}" for name in names if name in run.settings)
    return (
        f"## Training: {run.ref}\n\n{run.method}, {run.num_tokens} tokens in {run.wall_s:.0f} s, best step "
        f"{run.best_step}, seed {run.seed}{', ' + settings if settings else ''}."
    )


def _proof(model: ModelVersion) -> str:
    return (
        f"## Proof\n\n- Adapter manifest `{model.adapter}`\n- Dataset `{model.dataset_digest}`\n"
        f"- Signed by key `{model.key_id}` (ed25519)\n- `tunewright models verify {model.ref}` re-hashes all "
        f"of it; `tunewright models explain {model.ref}` names the raw lines."
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    """Keep text that people typed on one line and without markup."""
    return " ".join(text.replace("<", "&lt;").split())


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
