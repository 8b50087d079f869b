import json

import pytest

from tunewright.core.text import canonical_text
from tunewright.demo.customers import is_right, live_questions
from tunewright.demo.shop import make_shop


@pytest.fixture(scope="module")
def shop():
    return make_shop()


def test_live_questions_are_the_same_for_a_seed_and_stand_nowhere_in_the_data(shop):
    questions = live_questions(shop, 50, seed=7)
    assert questions == live_questions(shop, 50, seed=7)
    known = "\n".join(canonical_text(line) for lines in shop.lines.values() for line in lines)
    assert not [q for q in questions if json.dumps(q.said, ensure_ascii=False) in known]
    assert len({q.said for q in questions}) == 50


def test_an_order_with_its_options_in_another_order_is_right_and_another_item_is_not(shop):
    question = next(
        q for q in live_questions(shop, 200, seed=1) if len(json.loads(q.order).get("options", [])) > 1
    )
    order = json.loads(question.order)
    swapped = order | {"options": order["options"][::-1]}
    assert is_right(question.order, json.dumps(swapped))
    assert not is_right(question.order, json.dumps(order | {"item": "something else"}))
    assert not is_right(question.order, "no JSON at all")
