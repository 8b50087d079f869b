import pytest

from tunewright.evals.advice import Situation, advise
from tunewright.records import Interval


def measured(low, high, n=100):
    return Interval(estimate=(low + high) / 2, low=low, high=high, n=n, clusters=n, method="wilson")


def a_situation(**changes):
    ready = {"num_rows": 5_000, "bar": 0.8, "few_shot": measured(0.3, 0.5)}
    return Situation(**(ready | changes))


@pytest.mark.parametrize(
    ("changes", "answer", "reason", "suggestion"),
    [
        ({"num_rows": 150}, "no", "150 labelled rows. Below 200", "few-shot prompt"),
        ({"num_rows": 600}, "only_with_learning_curve", "Between 200 and 1,000", "a quarter, a half"),
        ({"num_rows": 600, "is_still_improving": False}, "no", "curve is flat", "errors"),
        ({"few_shot": measured(0.85, 0.95)}, "no", "clears the bar of 0.80", "Serve the base"),
        (
            {"few_shot": measured(0.7, 0.9)},
            "measure_first",
            "cannot be told from the bar",
            "more than 100 rows",
        ),
        ({"few_shot": None}, "measure_first", "best few-shot prompt", "Measure the few-shot prompt"),
        ({"bar": None}, "measure_first", "5,000 labelled rows", "good enough"),
        ({"changes_weekly": True}, "no", "changes weekly", "retrieval"),
        ({"is_representative": False}, "fix_data_first", "do not look like", "upstream"),
        ({"label_consistency": 0.76}, "fix_data_first", "only 76 % of cases", "conflicting labels"),
    ],
)
def test_each_rule_answers_with_its_reason_and_what_to_do(changes, answer, reason, suggestion):
    advice = advise(a_situation(**changes))
    assert advice.answer == answer
    assert reason in " ".join(advice.reasons)
    assert suggestion in advice.suggestions[0]


def test_enough_rows_and_a_prompt_below_the_bar_say_yes():
    advice = advise(a_situation())
    assert advice.answer == "yes"
    assert advice.reasons == (
        "There are 5,000 labelled rows.",
        "The base with its best few-shot prompt scores 0.40 (interval 0.30 to 0.50), below the bar of 0.80.",
    )
    assert advice.suggestions == ()


def test_a_rising_learning_curve_makes_few_hundred_rows_enough():
    assert advise(a_situation(num_rows=600, is_still_improving=True)).answer == "yes"


def test_a_good_prompt_does_not_settle_it_where_latency_is_strict():
    advice = advise(a_situation(few_shot=measured(0.85, 0.95), is_latency_or_size_strict=True))
    assert advice.answer == "yes"
    assert "distil" in advice.suggestions[0]


def test_what_must_be_minded_is_said_with_the_yes():
    advice = advise(a_situation(is_sensitive=True, is_continual=True))
    assert "differential privacy" in advice.suggestions[0]
    assert "replay" in advice.suggestions[1]


def test_weekly_change_outweighs_everything_else():
    assert "weekly" in advise(a_situation(changes_weekly=True, num_rows=10)).reasons[0]


@pytest.mark.parametrize(("rows", "answer"), [(199, "no"), (200, "only_with_learning_curve"), (1001, "yes")])
def test_the_borders_are_at_200_and_above_1000(rows, answer):
    assert advise(a_situation(num_rows=rows)).answer == answer
