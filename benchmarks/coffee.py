"""Coffee orders over several split salts: what the tuned model adds, and how far one split can be trusted.

    python benchmarks/coffee.py --data DIR [--salts 5] [--workspace DIR]

Runs `recipes/coffee.yaml` once a salt, each in a workspace of its own, and prints a table in Markdown. DIR
holds `coffee/orders.jsonl`, derived from Taskmaster-4 (CC BY 4.0).
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tunewright.app import open_app
from tunewright.cli.progress import PlainProgress
from tunewright.pipeline.flow import Outcome
from tunewright.records import Interval
from tunewright.settings import load_settings

RECIPE = Path(__file__).parents[1] / "recipes" / "coffee.yaml"
ARMS = ("base", "few_shot", "nearest_example", "candidate")
METRICS = ("exact", "item", "json_valid", "raw_exact", "key_f1")


def main() -> None:
    """Run every salt and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--salts", type=int, default=5)
    parser.add_argument(
        "--workspace", type=Path, help="keep the workspaces here, and go on where they stopped"
    )
    options = parser.parse_args()
    folder = options.workspace or Path(tempfile.mkdtemp(prefix="coffee-"))
    outcomes = [run_salt(str(salt), folder, options.data) for salt in range(options.salts)]
    print(table(outcomes))
    print(f"\nFirst salt, further findings:\n\n{findings(outcomes[0])}")


def run_salt(salt: str, folder: Path, data: Path) -> Outcome:
    """Run the recipe with another salt of the split."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / f"coffee-{salt}.yaml"
    text = RECIPE.read_text(encoding="utf-8")
    changed = text.replace(
        "{held_out: 0.2, validation: 0.1}", f'{{held_out: 0.2, validation: 0.1, salt: "{salt}"}}'
    )
    assert changed != text, "the recipe's split line is not what this benchmark expects"
    recipe.write_text(changed, encoding="utf-8")
    environment = {"TUNEWRIGHT_CONFIG": str(folder / "keys")}
    settings = load_settings(environment, workspace=folder / f"salt-{salt}", data=data)
    with open_app(settings, PlainProgress()) as app:
        outcome, _ = app.run(recipe)
    return outcome


def table(outcomes: list[Outcome]) -> str:
    """One line an arm and metric: every salt, the mean and the spread."""
    head = ["arm", "metric", *[f"salt {n}" for n in range(len(outcomes))], "mean", "sd over salts"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for arm in ARMS:
        for metric in METRICS:
            found = [interval_of(outcome, arm, metric) for outcome in outcomes]
            values = [one.estimate for one in found]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells = [f"{one.estimate:.3f} ({one.low:.3f}-{one.high:.3f}, n {one.n})" for one in found]
            lines.append(" | ".join([arm, metric, *cells, f"{statistics.mean(values):.3f}", f"{spread:.3f}"]))
    verdicts = [outcome.report.verdict for outcome in outcomes if outcome.report]
    times = [f"{outcome.run.wall_s:.0f} s" for outcome in outcomes if outcome.run]
    return "\n".join([f"| {line} |" for line in lines]) + f"\n\nverdicts: {verdicts}; training: {times}"


def interval_of(outcome: Outcome, arm: str, metric: str) -> Interval:
    """Find one arm's metric in the report."""
    assert outcome.report is not None
    return next(one.metrics[metric] for one in outcome.report.arms if one.arm == arm)


def findings(outcome: Outcome) -> str:
    """Print what the report says beside the verdict."""
    assert outcome.report is not None
    names = ("by_similarity_to_train", "label_consistency", "latency")
    facts = {name: outcome.report.report.get(name) for name in names}
    return "```json\n" + json.dumps(facts, indent=1) + "\n```"


if __name__ == "__main__":
    main()
