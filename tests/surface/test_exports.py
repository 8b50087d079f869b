import subprocess
import sys

import tunewright

HEAVY = ("torch", "transformers", "peft", "ray", "numba", "sqlalchemy", "scipy")


def test_the_public_names_are_these_and_sorted():
    assert tunewright.__all__ == sorted(tunewright.__all__)
    assert tunewright.__all__ == ["Digest", "Recipe", "Ref", "TunewrightError", "__version__"]


def test_the_command_line_imports_nothing_heavy():
    code = f"import sys, tunewright.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
