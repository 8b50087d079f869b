"""A recipe's `deploy` section as the policy that a rollout keeps. Pure."""

from collections.abc import Iterator, Sequence

from tunewright.core.live_scoring import compile_live, scores_live
from tunewright.recipe import DeploySection, Recipe, ScorerSpec, SuiteSpec
from tunewright.records import LiveScorer, RolloutPolicy


def policy_of(recipe: Recipe) -> RolloutPolicy:
    """Copy the rules a rollout of this recipe is decided by.

    Raises:
        RecipeError: a live scorer is unknown, has wrong settings, or needs a reference answer.
    """
    return _policy(recipe.deploy, live_scorers_of(recipe))


def default_policy() -> RolloutPolicy:
    """Give the rules of a recipe that says nothing about them; no live scorers."""
    return _policy(DeploySection(), ())


def live_scorers_of(recipe: Recipe) -> tuple[LiveScorer, ...]:
    """Take the live scorers a recipe names, else those of its gate that need no reference answer.

    Raises:
        RecipeError: see `policy_of`.
    """
    named = tuple(_live(spec, spec.metric) for spec in recipe.deploy.live_scorers)
    chosen = named or tuple(_of_the_gate(recipe.gate.suites))
    compile_live(chosen)
    return chosen


def _policy(deploy: DeploySection, live_scorers: tuple[LiveScorer, ...]) -> RolloutPolicy:
    return RolloutPolicy(
        ramp=deploy.ramp,
        margin=deploy.margin,
        alpha=deploy.alpha,
        promote_alpha=deploy.promote_alpha,
        shadow_requests=deploy.shadow_requests,
        min_units=deploy.min_units,
        min_stage_s=deploy.min_stage_s,
        window_s=deploy.window_s,
        deadline_s=deploy.deadline_s,
        hold_s=deploy.hold_s,
        latency_slack=deploy.latency_slack,
        tokens_slack=deploy.tokens_slack,
        feedback_required=deploy.feedback_required,
        live_scorers=live_scorers,
    )


def _of_the_gate(suites: Sequence[SuiteSpec]) -> Iterator[LiveScorer]:
    """Name each rule once; one that means something else in a later suite carries the suite's name too."""
    found: list[LiveScorer] = []
    for suite in suites:
        for spec in suite.scorers:
            if not scores_live(spec) or any(_is_same(one, spec) for one in found):
                continue
            taken = spec.metric in [one.name for one in found]
            live = _live(spec, f"{suite.name}.{spec.metric}" if taken else spec.metric)
            found.append(live)
            yield live


def _is_same(live: LiveScorer, spec: ScorerSpec) -> bool:
    return (live.kind, live.settings) == (spec.kind, spec.settings)


def _live(spec: ScorerSpec, name: str) -> LiveScorer:
    return LiveScorer(kind=spec.kind, name=name, settings=spec.settings)
