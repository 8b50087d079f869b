"""Every recipe that ships loads, and says what the docs say it says."""

from pathlib import Path

import pytest

from tunewright.demo.shop import FIRST, SECOND
from tunewright.pipeline.load import load_recipe

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "src" / "tunewright" / "demo" / "recipes"
SHIPPED = sorted([*(ROOT / "recipes").glob("*.yaml"), *DEMO.glob("*.yaml")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_it_loads_and_asks_more_than_beating_the_base(path: Path) -> None:
    recipe = load_recipe(path)
    against = {requirement.better_than for requirement in recipe.gate.require}
    assert {"base", "few_shot", "nearest_example"} <= against
    assert any(requirement.not_worse_than == "incumbent" for requirement in recipe.gate.require)


def test_the_second_demo_recipe_differs_in_rows_and_nothing_that_is_judged() -> None:
    first, second = load_recipe(DEMO / "shop-v1.yaml"), load_recipe(DEMO / "shop-v2.yaml")
    assert first.name == second.name == "shop"
    assert [source.path for source in first.data.sources] == [FIRST]
    assert [source.path for source in second.data.sources] == [FIRST, SECOND]
    assert first.gate == second.gate
    assert first.data.split == second.data.split
