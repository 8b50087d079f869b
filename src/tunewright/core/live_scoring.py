"""Scoring live answers: the rules that need no reference answer. Pure.

A rollout watches these beside errors and feedback. A scorer qualifies when it gives a share in [0, 1] for the
answer alone, 1 being good, such as `json_valid`; whatever compares with a reference does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.scorers import SCORERS, Answer, Scorer, check_scorer
from tunewright.errors import RecipeError
from tunewright.recipe import ScorerSpec
from tunewright.records import Example, LiveScorer, Message, Record, Source
from tunewright.values import digest_bytes

_NOTHING = digest_bytes(b"")
_NO_REFERENCE = Example(
    id=_NOTHING,
    messages=(Message(role="user", content="-"), Message(role="assistant", content="-")),
    source=Source(digest=_NOTHING, path="-", line=1),
)
"""Stands where a scorer expects a row; the scorers used here never look at it."""


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    scorer: Scorer
    settings: Record


@dataclass(frozen=True, slots=True)
class LiveScorers:
    """A rollout's rules, checked and ready."""

    rules: tuple[_Rule, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, in the order of the policy."""
        return tuple(rule.name for rule in self.rules)

    def score(self, text: str, finish_reason: str | None = None, num_tokens: int = 0) -> dict[str, float]:
        """Score one answer.

        Args:
            text: the answer.
            finish_reason: as the engine says; others than `stop` and `length` count as unknown.
            num_tokens: tokens of the answer.

        Returns:
            Name -> score in [0, 1]; a rule that cannot judge this answer is left out.
        """
        reason = finish_reason if finish_reason == "stop" or finish_reason == "length" else None
        answer = Answer(text, reason, num_tokens=num_tokens)
        values = ((rule, rule.scorer.score(answer, _NO_REFERENCE, rule.settings)) for rule in self.rules)
        return {rule.name: min(1.0, max(0.0, value[0])) for rule, value in values if value is not None}


def compile_live(scorers: Sequence[LiveScorer]) -> LiveScorers:
    """Check a policy's live scorers and make them ready.

    Raises:
        RecipeError: unknown or with wrong settings, needs a reference, or a name is there twice.
    """
    rules: list[_Rule] = []
    for live in scorers:
        spec = ScorerSpec(kind=live.kind, name=live.name, settings=live.settings)
        settings = check_scorer(spec)
        if not scores_live(spec):
            raise RecipeError(
                f"scorer {live.name!r} ({live.kind}) cannot judge a live answer without a reference "
                f"answer; expected one of: {', '.join(live_kinds())} (contains with a `text`)"
            )
        if live.name in [rule.name for rule in rules]:
            raise RecipeError(
                f"live scorer {live.name!r} is there twice; expected one of each: give a `name`"
            )
        rules.append(_Rule(live.name, SCORERS[live.kind], settings))
    return LiveScorers(tuple(rules))


def scores_live(spec: ScorerSpec) -> bool:
    """Say whether a scorer, with its settings, can judge an answer by itself. Raises RecipeError."""
    settings = check_scorer(spec)
    known = SCORERS[spec.kind]
    return _is_good_share(known) and known.scores_alone is not None and known.scores_alone(settings)


def live_kinds() -> list[str]:
    """List the scorers that can judge live answers, some only with settings such as a fixed text."""
    return sorted(name for name, known in SCORERS.items() if _is_good_share(known) and known.scores_alone)


def _is_good_share(known: Scorer) -> bool:
    return (
        known.is_share and known.higher_is_better and known.kind != "aggregate" and not known.needs_logprobs
    )
