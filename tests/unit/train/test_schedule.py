"""Learning rates: the rule for `auto`, warm-up and decay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.recipe import TrainSection
from tunewright.train.schedule import HIGHEST_RATE, choose_rate, rate_at

TINY = {"hidden_size": 256, "model_type": "llama"}


def test_auto_rate_follows_the_published_rule_and_says_so():
    choice = choose_rate(TrainSection(), TINY)
    assert choice.rate == pytest.approx(5e-4 * (2000 / 256) ** 0.781)
    assert choice.formula == "5e-05 x 10 x (2000 / 256)^0.781 = 0.00249"
    assert choose_rate(TrainSection(), {"hidden_size": 2000, "model_type": "llama"}).rate == pytest.approx(
        5e-4
    )


def test_full_fine_tuning_takes_a_tenth():
    lora, full = (choose_rate(TrainSection(method=m), TINY).rate for m in ("lora", "full"))
    assert lora == pytest.approx(10 * full)


def test_very_narrow_models_are_capped_and_unknown_families_take_the_careful_power():
    capped = choose_rate(TrainSection(), {"hidden_size": 32, "model_type": "llama"})
    assert capped.rate == HIGHEST_RATE
    assert "capped" in capped.formula
    unknown = choose_rate(TrainSection(), {"hidden_size": 256, "model_type": "gpt_new"})
    assert unknown.rate < choose_rate(TrainSection(), TINY).rate


def test_given_rate_is_taken_as_it_is():
    assert choose_rate(TrainSection(learning_rate=0.02), TINY).rate == 0.02


@given(
    st.integers(1, 300),
    st.floats(0, 0.9),
    st.sampled_from(["cosine", "linear", "constant"]),
)
def test_rate_is_positive_never_above_peak_rises_then_falls(num_steps: int, warmup: float, kind: str):
    rates = [
        rate_at(step, num_steps=num_steps, peak=1.0, warmup_fraction=warmup, kind=kind)
        for step in range(1, num_steps + 1)
    ]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == pytest.approx(1.0)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_cosine_ends_near_zero_and_constant_stays():
    last = {"num_steps": 100, "peak": 1.0, "warmup_fraction": 0.05}
    assert rate_at(100, kind="cosine", **last) < 0.001
    assert rate_at(100, kind="linear", **last) == pytest.approx(1 / 95)
    assert rate_at(100, kind="constant", **last) == 1.0
    assert rate_at(1, kind="cosine", **last) == pytest.approx(0.2)
