"""A stage's CODE_VERSION is part of every fingerprint; changed sources must raise it, or say "no change".

When this fails: if the stage now makes other results from the same inputs, raise its CODE_VERSION. Then, in
both cases, put the hash printed by the failure into PINS.
"""

import hashlib
from pathlib import Path

import pytest

import tunewright
from tunewright.curate.curate import CODE_VERSION as CURATE
from tunewright.evals.evaluate import CODE_VERSION as EVALUATE
from tunewright.registry.register import CODE_VERSION as REGISTER
from tunewright.train.train import CODE_VERSION as TRAIN

PACKAGE = Path(tunewright.__file__).parent
VERSIONS = {"curate": CURATE, "train": TRAIN, "evals": EVALUATE, "registry": REGISTER}
PINS = {
    "curate": (1, "5186c593e2c942a3"),
    "train": (1, "4e1ee926177d6ba9"),
    "evals": (1, "ca9fea88fcc44a0c"),
    "registry": (1, "4ecd24376db86b73"),
}
CORE_OF = {
    "curate": ("text", "joins", "lexical", "clusters", "rows"),
    "train": ("tokens", "chat_template", "template_budget", "template_guard", "rows"),
    "evals": (
        "tokens", "chat_template", "template_budget", "template_guard",
        "text", "joins", "lexical", "clusters", "rows", "stats", "stats_bootstrap",
        "stats_clusters", "stats_distributions", "stats_paired", "scorers", "scorer_base", "scorer_classes",
        "scorer_json", "scorer_run", "scorer_text",
    ),
    "registry": ("ledger", "references", "rows"),
}  # fmt: skip


def sources_hash(stage: str) -> str:
    files = sorted((PACKAGE / stage).glob("*.py"))
    files += [PACKAGE / "core" / f"{name}.py" for name in CORE_OF[stage]]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


@pytest.mark.parametrize("stage", list(PINS))
def test_changed_sources_raise_the_code_version_or_refresh_the_pin(stage: str):
    assert (VERSIONS[stage], sources_hash(stage)) == PINS[stage], "see the docstring of this file"
