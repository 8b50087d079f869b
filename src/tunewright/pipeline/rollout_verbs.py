"""Verbs on rollouts: start, status, promote, roll back, hold, resume, and what a running gateway takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.core.references import list_records, unknown_reference
from tunewright.deploy.canary import Action, Step
from tunewright.deploy.evidence import Evidence, extend, start_evidence
from tunewright.deploy.policy import default_policy, policy_of
from tunewright.deploy.rollout import CHAMPION, find_rollout, history, last_state, read_state, take_step
from tunewright.deploy.words import status_json, status_sentences
from tunewright.errors import IntegrityError, RegistryError, UnknownReference, UsageError
from tunewright.live_ports import Live
from tunewright.pipeline.load import load_recipe
from tunewright.pipeline.rollout_follow import follow_rollout
from tunewright.pipeline.rollout_start import start_with
from tunewright.ports import Ports
from tunewright.records import LIVE_PHASES, LedgerEvent, ModelVersion, Record, Rollout, RolloutState
from tunewright.registry.aliases import require_servable
from tunewright.values import Json, Ref

GATEWAY = "gateway"
"""Who decided, in the ledger, when a running gateway took the step."""

Find = Callable[[str, str], Record]
"""(kind, `name@version` or `name`) -> record; raises UnknownReference."""


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """Where a rollout stands, what is known, and how it came there."""

    rollout: Rollout
    state: RolloutState
    sentences: tuple[str, ...]
    """What is known, what is missing, and how many units that needs."""
    figures: Mapping[str, Json]
    """The same for programs."""
    history: tuple[LedgerEvent, ...]


class RolloutVerbs:
    """What an operator and the gateway do with rollouts."""

    def __init__(self, ports: Ports, live: Callable[[], Live], find: Find) -> None:
        self._ports = ports
        self._live = live
        self._find = find

    def start(self, model: str, recipe_path: Path | None = None) -> tuple[Rollout, RolloutState]:
        """Start a rollout of a model (`name@n`, or the newest by name) against the champion, in shadow.

        Args:
            model: which.
            recipe_path: whose `deploy` section rules; absent: the rules of the name's last rollout, else the
                defaults.

        Raises:
            UsageError: no champion, the model is it already, or another rollout of the name is live.
            RecipeError, UnknownReference, BaseMismatch, ModelRevoked, GateNotPassed, AliasConflict.
        """
        candidate = self._find("model", model)
        assert isinstance(candidate, ModelVersion)
        if recipe_path is not None:
            policy = policy_of(load_recipe(recipe_path))
        else:
            last = self._ports.records.latest("rollout", candidate.ref.name)
            policy = last.policy if isinstance(last, Rollout) else default_policy()
        return start_with(candidate, policy, self._ports)

    def all(self) -> list[tuple[Rollout, RolloutState]]:
        """List all rollouts, oldest first, with where they stand or ended."""
        records = self._ports.records
        return [(one, last_state(records, one.ref)) for one in list_records(records, Rollout)]

    def active(self) -> list[tuple[Rollout, RolloutState]]:
        """List the live rollouts: at most one a name."""
        records = self._ports.records
        names = sorted({one.ref.name for one in list_records(records, Rollout)})
        states = [state for name in names if (state := read_state(records, name)) is not None]
        return [(find_rollout(records, one.rollout), one) for one in states if one.phase in LIVE_PHASES]

    def status(self, name: str | None = None) -> RolloutStatus:
        """Say where a rollout stands, in words and figures.

        Args:
            name: `shop` for the newest rollout of a name, `shop@2` for one; absent: the live one, else the
                newest of all.

        Raises:
            UnknownReference: there is none.
            UsageError: several are live and none was named.
        """
        rollout, state = self._one(name)
        evidence = self._evidence(rollout, state)
        now = self._ports.clock()
        return RolloutStatus(
            rollout,
            state,
            tuple(status_sentences(rollout, state, evidence, now)),
            status_json(rollout, state, evidence, now),
            tuple(history(self._ports.records, rollout.ref)),
        )

    def promote(self, name: str, reason: str) -> RolloutState:
        """Promote a live rollout by a person's word, whatever the evidence says.

        Raises:
            UsageError: no reason, or it is not live.
            ModelRevoked, SignatureInvalid, BlobMissing, BlobCorrupt: the candidate must not be served.
            AliasConflict: somebody moved the rollout or `champion` first.
        """
        rollout, state = self._newest(name)
        require_servable(self._model(rollout.candidate), self._ports)
        return self._by_hand(rollout, state, "promote", reason)

    def roll_back(self, name: str, reason: str) -> RolloutState:
        """Take the candidate's traffic away at once; after a promotion, `champion` goes back too.

        Raises:
            UsageError: no reason, or it was rolled back already.
            ModelRevoked, SignatureInvalid, BlobMissing, BlobCorrupt: after a promotion, the former champion
                must not be served.
            AliasConflict: somebody moved the rollout or `champion` first.
        """
        rollout, state = self._newest(name)
        if state.phase == "promoted":
            require_servable(self._model(rollout.incumbent), self._ports)
        return self._by_hand(rollout, state, "roll_back", reason)

    def hold(self, name: str, reason: str) -> RolloutState:
        """Keep a rollout's share as it is until a person resumes, promotes or rolls it back."""
        return self._by_hand(*self._newest(name), "hold", reason)

    def resume(self, name: str, reason: str) -> RolloutState:
        """Let a held rollout go on where it stood. Raises UsageError when it is not held."""
        rollout, state = self._newest(name)
        if state.phase != "held":
            raise UsageError(
                f"rollout {rollout.ref} is not held; expected one that is. `tunewright rollout status "
                f"{rollout.ref.name}` says where it stands."
            )
        return self._by_hand(rollout, state, "advance", reason)

    def follow(self, rollout: Ref) -> RolloutState:
        """Wait until a rollout is promoted, rolled back or held; every change is a line of progress."""
        return follow_rollout(rollout, self._ports, self._live, say=self._ports.progress.finish)

    def take(self, rollout: Rollout, state: RolloutState, step: Step) -> RolloutState:
        """Take a step that the evidence decided; for the gateway.

        A promotion that may not be, because the candidate was revoked or damaged or somebody moved `champion`
        by hand, becomes a roll back that says so.

        Raises:
            AliasConflict: the rollout does not stand at `state` any more; nothing was changed.
        """
        forbidden = self._forbidden(rollout) if step.action == "promote" else None
        if forbidden is not None:
            step = Step("roll_back", forbidden, 0.0, state.stage, step.detail)
        return take_step(rollout, state, step, self._ports, actor=GATEWAY)

    def _evidence(self, rollout: Rollout, state: RolloutState) -> Evidence:
        """Replay everything the trace store tells of a rollout."""
        traces = self._live().traces
        said = [
            *traces.feedback(rollout=rollout.ref, status="superseded"),
            *traces.feedback(rollout=rollout.ref),
        ]
        seen = traces.of_rollout(rollout.ref)
        return extend(start_evidence(rollout), seen, said, state, self._ports.clock())

    def _forbidden(self, rollout: Rollout) -> str | None:
        """Say why a candidate may not be promoted, whatever the evidence says."""
        champion = self._ports.records.alias(rollout.ref.name, CHAMPION).target
        if champion != rollout.incumbent:
            return f"{CHAMPION} was moved to {champion} by hand while the rollout was live."
        try:
            require_servable(self._model(rollout.candidate), self._ports)
        except (RegistryError, IntegrityError) as error:
            return f"The evidence was good, but the candidate must not be served: {error}"
        return None

    def _by_hand(self, rollout: Rollout, state: RolloutState, action: Action, reason: str) -> RolloutState:
        if not reason.strip():
            raise UsageError(f"rollout {rollout.ref}: expected a reason, one sentence for the ledger")
        step = Step(action, reason.strip(), state.share, state.stage, {"by_hand": True})
        return take_step(rollout, state, step, self._ports, actor=self._ports.actor)

    def _newest(self, name: str) -> tuple[Rollout, RolloutState]:
        """Find the newest rollout of a name, the only one that can still be moved."""
        rollout, state = self._one(name)
        newest = read_state(self._ports.records, rollout.ref.name)
        if newest is None or newest.rollout != rollout.ref:
            raise UsageError(
                f"rollout {rollout.ref} has ended; expected the newest one of {rollout.ref.name}, "
                f"{newest.rollout if newest else 'none'}"
            )
        return rollout, state

    def _one(self, name: str | None) -> tuple[Rollout, RolloutState]:
        records = self._ports.records
        if name is None:
            return _only(self.active() or self.all()[-1:])
        if "@" in name:
            rollout = find_rollout(records, Ref.parse(name))
            return rollout, last_state(records, rollout.ref)
        state = read_state(records, name)
        if state is None:
            known = [str(one.ref) for one in list_records(records, Rollout)]
            raise unknown_reference("rollout", name, known)
        return find_rollout(records, state.rollout), state

    def _model(self, ref: Ref) -> ModelVersion:
        model = self._find("model", str(ref))
        assert isinstance(model, ModelVersion)
        return model


def _only(found: Sequence[tuple[Rollout, RolloutState]]) -> tuple[Rollout, RolloutState]:
    if not found:
        raise UnknownReference(
            "this workspace holds no rollout; expected one. `tunewright run RECIPE` starts one where there "
            "is a champion, `tunewright rollout start NAME@N` starts one for a registered model."
        )
    if len(found) > 1:
        names = ", ".join(one.ref.name for one, _ in found)
        raise UsageError(f"{len(found)} rollouts are live; expected the name of one: {names}")
    return found[0]
