"""Scores of live answers: the rules of a rollout's policy, compiled once a rollout."""

from tunewright.core.live_scoring import LiveScorers, compile_live
from tunewright.records import Rollout
from tunewright.server.seams import Finish
from tunewright.values import Ref


class LiveScoring:
    """Compiled rules by rollout; confined to one event loop."""

    def __init__(self) -> None:
        self._rules: dict[Ref, LiveScorers] = {}

    def score(self, rollout: Rollout, finish: Finish) -> dict[str, float]:
        """Score an answer; nothing for one that failed or was cut off by the client."""
        if finish.status != "ok":
            return {}
        rules = self._rules.get(rollout.ref)
        if rules is None:
            rules = self._rules[rollout.ref] = compile_live(rollout.policy.live_scorers)
        return rules.score(finish.text, finish.finish_reason, finish.num_tokens)
