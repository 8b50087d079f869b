"""Banking77: how many official test rows have a near twin in train, and what our split does with them.

    python benchmarks/banking77_leak.py --data DIR

DIR holds `banking77/train.csv` and `test.csv` (PolyAI, CC BY 4.0). Prints, for the official split and for
ours over the same rows, the held-out rows with a train neighbour: same text, Jaccard, lexical score.
"""

import argparse
import csv
import tempfile
from pathlib import Path

from tunewright.app import open_app
from tunewright.cli.progress import PlainProgress
from tunewright.core.joins import near_pairs_between
from tunewright.core.lexical import LexicalIndex
from tunewright.core.rows import load_split
from tunewright.core.text import prompt_text, signatures, text_digest
from tunewright.settings import load_settings

RECIPE = """
name: banking77
data:
  sources:
    - {path: banking77/train.csv, prompt_field: text, completion_field: category}
    - {path: banking77/test.csv, prompt_field: text, completion_field: category}
  split: {held_out: 0.2, validation: 0.1}
"""


def main() -> None:
    """Measure the official split, then ours."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    train, test = (read(options.data / "banking77" / name) for name in ("train.csv", "test.csv"))
    print("| split | train rows | held-out rows | exact twin | J >= .8 | J >= .7 | lexical >= .9 |")
    print("|---|---|---|---|---|---|---|")
    print(row("official", train, test))
    print(row("ours, by cluster", *our_split(options.data)))


def read(path: Path) -> list[str]:
    """Read the text column."""
    with path.open(encoding="utf-8", newline="") as file:
        return [line["text"] for line in csv.DictReader(file)]


def our_split(data: Path) -> tuple[list[str], list[str]]:
    """Curate all rows and return the texts of both sides."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
        environment = {"TUNEWRIGHT_CONFIG": str(folder / "keys")}
        settings = load_settings(environment, workspace=folder / "workspace", data=data)
        with open_app(settings, PlainProgress()) as app:
            outcome, _ = app.run(folder / "recipe.yaml", until="curate")
            session = app.ports.vault.open("audit", "benchmark", app.ports.actor)
            sides = {
                s: load_split(outcome.dataset, s, app.ports.blobs, session) for s in outcome.dataset.splits
            }
    texts = {side: [prompt_text(one.messages) for one in rows] for side, rows in sides.items()}
    return texts["train"] + texts["validation"], texts["held_out"]


def row(name: str, train: list[str], held_out: list[str]) -> str:
    """Count held-out rows with a neighbour in train."""
    known = {text_digest(text) for text in train}
    exact = sum(text_digest(text) in known for text in held_out)
    left, right = signatures(held_out), signatures(train)
    near = {t: len({pair.a for pair in near_pairs_between(left, right, t)}) for t in (0.8, 0.7)}
    lexical = sum(score >= 0.9 for _, score in LexicalIndex(train).best(held_out))
    cells = [f"{n} ({n / len(held_out):.1%})" for n in (exact, near[0.8], near[0.7], lexical)]
    return f"| {name} | {len(train):,} | {len(held_out):,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
