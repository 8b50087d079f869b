"""How often the gate is wrong, by simulation through its own estimates and decision rule."""

import numpy as np
import pytest
from scipy import stats

from tunewright.evals.checks import three_way
from tunewright.evals.estimates import Aligned, Precision, improvement, score
from tunewright.evals.evidence import Metric

ALPHA = 0.05
PRECISION = Precision(level=1 - 2 * ALPHA)
BINARY = Metric("exact", "held_out", "binary")
GRADED = Metric("overlap", "held_out", "graded")


def verdict(candidate, other, clusters, metric, null):
    aligned = Aligned((candidate[:, None], other[:, None]), clusters, (0, 0), len(candidate))
    return three_way(improvement(aligned, metric, PRECISION, null=null), null, ALPHA)


def from_counts(wins, losses, n, metric=BINARY, null=0.0):
    candidate, other = np.zeros(n), np.zeros(n)
    candidate[:wins], other[wins : wins + losses] = 1.0, 1.0
    return verdict(candidate, other, np.arange(n), metric, null)


def pass_rate(n, win_rate, loss_rate, null):
    """Exact probability of `pass`, over all tables that matter."""
    total = 0.0
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            weight = stats.multinomial.pmf(
                [wins, losses, n - wins - losses], n, [win_rate, loss_rate, 1 - win_rate - loss_rate]
            )
            if weight > 1e-7 and from_counts(wins, losses, n, null=null) == "pass":
                total += weight
    return total


@pytest.mark.parametrize(("n", "rate"), [(50, 0.1), (50, 0.2)])
def test_a_null_candidate_is_promoted_at_most_alpha(n, rate):
    assert pass_rate(n, rate / 2, rate / 2, null=0.0) <= ALPHA


def simulated(n, win_rate, loss_rate, null, runs, seed):
    tables = np.random.default_rng(seed).multinomial(
        n, [win_rate, loss_rate, 1 - win_rate - loss_rate], size=runs
    )
    distinct, counts = np.unique(tables, axis=0, return_counts=True)
    verdicts = [from_counts(int(w), int(x), n, null=null) for w, x, _ in distinct]
    return {
        name: sum(c for v, c in zip(verdicts, counts, strict=True) if v == name) / runs
        for name in set(verdicts)
    }


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("discordance", [0.1, 0.3])
def test_superiority_is_claimed_falsely_at_most_alpha(n, discordance):
    rates = simulated(n, discordance / 2, discordance / 2, 0.0, 4_000, seed=n)
    assert rates.get("pass", 0.0) <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / 4_000) ** 0.5


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("margin", [0.03, 0.08])
def test_a_true_loss_of_the_margin_passes_at_most_alpha(n, margin):
    rates = simulated(n, 0.04, 0.04 + margin, -margin, 4_000, seed=n)
    assert rates.get("pass", 0.0) <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / 4_000) ** 0.5


def test_an_eight_point_drop_hardly_ever_passes_at_fifty_rows():
    rates = simulated(50, 0.05, 0.13, -0.03, 4_000, seed=3)
    assert rates.get("pass", 0.0) < 0.02


def clustered_pair(rng, num_clusters, loss):
    """Two arms whose rows agree within a cluster; the candidate truly loses `loss`."""
    sizes = rng.integers(1, 8, num_clusters)
    clusters = np.repeat(np.arange(num_clusters), sizes)
    mood = np.repeat(rng.random(num_clusters), sizes)
    own = rng.random(len(clusters))
    luck = np.where(rng.random(len(clusters)) < 0.6, mood, own)
    other = (rng.random(len(clusters)) < 0.7).astype(float)
    candidate = np.where(luck < 0.15, 1.0, np.where(luck < 0.3 + loss, 0.0, other))
    # The candidate is right on .15 + .7 (.7 - loss): the truth of the difference follows.
    truth = 0.15 + 0.7 * (0.7 - loss) - 0.7
    return candidate, other, clusters, truth


@pytest.mark.parametrize("num_clusters", [12, 20])
def test_clustered_rows_are_promoted_falsely_about_alpha_at_most(num_clusters):
    rng = np.random.default_rng(num_clusters)
    runs, passed, covered = 500, 0, 0
    for _ in range(runs):
        candidate, other, clusters, truth = clustered_pair(rng, num_clusters, 0.1)
        aligned = Aligned((candidate[:, None], other[:, None]), clusters, (0, 0), len(candidate))
        found = improvement(aligned, BINARY, PRECISION, null=truth)
        passed += three_way(found, truth, ALPHA) == "pass"
        covered += found.low <= truth <= found.high
    assert passed / runs <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / runs) ** 0.5
    assert covered / runs >= 0.88


def test_graded_values_that_are_rarely_below_one_do_not_pass_on_luck():
    rng = np.random.default_rng(4)
    n, runs, passed = 100, 400, 0
    for _ in range(runs):
        candidate = np.where(rng.random(n) < 0.06, 0.5, 1.0)
        passed += verdict(candidate, np.ones(n), np.arange(n), GRADED, -0.03) == "pass"
    assert passed / runs <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / runs) ** 0.5


@pytest.mark.parametrize("true_rate", [0.5, 0.9, 0.97])
def test_a_level_is_claimed_falsely_at_most_alpha_computed_exactly(true_rate):
    n, wrong = 100, 0.0
    for passed in range(n + 1):
        values = np.zeros((n, 1))
        values[:passed] = 1.0
        found = score(Aligned((values,), np.arange(n), (0,), n), BINARY, PRECISION, null=true_rate)
        if three_way(found, true_rate, ALPHA, may_equal=True) == "pass":
            wrong += stats.binom.pmf(passed, n, true_rate)
    assert wrong <= ALPHA
