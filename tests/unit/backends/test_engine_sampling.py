"""How tokens are drawn."""

import pytest
import torch

from tunewright.backends.engine.answer import Sampling
from tunewright.backends.engine.sampling import Chooser, draw, scored

LOGITS = torch.tensor([[0.0, 3.0, 2.0, 1.0]])
PROBS = torch.softmax(LOGITS[0], -1)


def tokens_drawn(sampling: Sampling, count: int, beside: int = 0) -> list[int]:
    choosers = [*[Chooser.of(Sampling(1.0, seed=99 + row)) for row in range(beside)], Chooser.of(sampling)]
    logits = LOGITS.expand(beside + 1, -1)
    return [draw(logits, choosers)[1][-1].token for _ in range(count)]


def test_greedy_takes_the_likeliest():
    assert tokens_drawn(Sampling(), 3) == [1, 1, 1]


def test_draws_depend_on_the_seed_and_not_on_the_rows_beside():
    alone = tokens_drawn(Sampling(1.0, seed=7), 30)
    assert alone == tokens_drawn(Sampling(1.0, seed=7), 30, beside=3)
    assert alone != tokens_drawn(Sampling(1.0, seed=8), 30)


def test_draws_follow_the_distribution():
    drawn = tokens_drawn(Sampling(1.0, seed=1), 4000)
    for token, expected in enumerate(PROBS.tolist()):
        assert drawn.count(token) / 4000 == pytest.approx(expected, abs=0.035)


def test_top_p_keeps_the_likeliest_tokens_that_make_it_up():
    assert set(tokens_drawn(Sampling(1.0, top_p=0.6, seed=1), 200)) == {1}
    assert set(tokens_drawn(Sampling(1.0, top_p=0.7, seed=1), 200)) == {1, 2}


def test_a_low_temperature_is_nearly_greedy():
    assert set(tokens_drawn(Sampling(0.05, seed=1), 100)) == {1}


def test_log_probabilities_are_the_models_own_at_temperature_1():
    _, (drawn,) = draw(LOGITS, [Chooser.of(Sampling(0.5, seed=3, num_logprobs=2))])
    assert drawn.logprob == pytest.approx(float(PROBS[drawn.token].log()), abs=1e-6)
    assert [token for token, _ in drawn.top] == [1, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_marked_and_no_other(bad: float):
    logits = torch.stack([LOGITS[0], torch.tensor([0.0, bad, 0.0, 0.0])])
    for temperature in (0.0, 1.0):
        _, draws = draw(logits, [Chooser.of(Sampling(temperature, num_logprobs=1))] * 2)
        assert [item.is_finite for item in draws] == [True, False]


def test_scored_gives_each_token_its_probability_given_those_before():
    logits_TV = torch.tensor([[0.0, 1.0], [2.0, 0.0], [5.0, 5.0]])
    found = scored(logits_TV, torch.tensor([1, 1, 0]))
    expected = [0.0, float(logits_TV[0].log_softmax(-1)[1]), float(logits_TV[1].log_softmax(-1)[0])]
    assert found == pytest.approx(expected)
    assert scored(logits_TV[:1], torch.tensor([1])) == [0.0]
