"""Verbs on model versions: find, explain, verify, as-of, card, waive, alias, register, revoke, sweep."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tunewright.errors import UsageError
from tunewright.pipeline.load import load_recipe
from tunewright.pipeline.rollout_end import end_for_moved_champion, end_for_revoked
from tunewright.ports import Ports
from tunewright.records import AliasState, EvalReport, ModelVersion, Record, RolloutState, Waiver
from tunewright.registry.aliases import CHAMPION, revoke, roll_back, set_alias
from tunewright.registry.asof import as_of
from tunewright.registry.card import card
from tunewright.registry.explain import ModelExplanation, RowUse, digest_in, explain_model, explain_row
from tunewright.registry.register import register
from tunewright.registry.sweep import SweepableBlobs, SweepReport, sweep_orphans
from tunewright.registry.verify import Verification, verify_model, verify_workspace
from tunewright.registry.waive import waive
from tunewright.values import Ref


@dataclass(frozen=True, slots=True)
class Revoked:
    """A model that was taken out of use, and what that touched."""

    model: ModelVersion
    aliases: tuple[str, ...]
    """Aliases that still point to it: nothing is served through them until they are moved."""
    ended: RolloutState | None
    """Where its rollout stands now, when one was live."""


Find = Callable[[str, str], Record]
"""(kind, `name@version` or `name`) -> record; raises UnknownReference."""


class ModelVerbs:
    """What a user asks of registered models."""

    def __init__(self, ports: Ports, find: Find) -> None:
        self._ports = ports
        self._find = find

    def find(self, name: str) -> ModelVersion:
        """Read a model by `name@version`, or the latest by `name`. Raises UnknownReference."""
        model = self._find("model", name)
        assert isinstance(model, ModelVersion)
        return model

    def all(self) -> list[ModelVersion]:
        """List all models, oldest first."""
        return [one for one in self._ports.records.list("model") if isinstance(one, ModelVersion)]

    def aliases(self) -> dict[str, list[str]]:
        """Tell which aliases point to each model."""
        found: dict[str, list[str]] = {}
        for state in self._ports.records.aliases():
            found.setdefault(str(state.target), []).append(state.alias)
        return found

    def explain(self, name: str) -> ModelExplanation:
        """Walk from a model to the lines of the raw files."""
        ref = self.find(name).ref
        look = digest_in(self._ports.data_root)
        return explain_model(ref, self._ports.records, self._ports.blobs, look)

    def explain_row(self, row: str) -> list[RowUse]:
        """Walk from a row to every dataset and model that holds it."""
        return explain_row(row, self._ports.records, self._ports.blobs)

    def verify(self, name: str | None) -> Verification:
        """Re-hash one model and its ancestors, or the whole workspace."""
        ports = self._ports
        if name is None:
            return verify_workspace(ports.records, ports.blobs, ports.signer)
        ref = Ref.parse(name) if "@" in name else self.find(name).ref
        return verify_model(ref, ports.records, ports.blobs, ports.signer)

    def as_of(self, at: datetime) -> list[AliasState]:
        """Say where every alias pointed at a time."""
        return as_of(at, self._ports.records)

    def card(self, name: str) -> str:
        """Describe a model as a Hugging Face model card."""
        return card(self.find(name).ref, self._ports.records)

    def waive(self, evaluation: str, reason: str, author: str | None) -> Waiver:
        """Take responsibility for a verdict that is not pass."""
        return waive(self._report(evaluation).ref, reason, author or self._ports.actor, self._ports)

    def register(self, evaluation: str, recipe_path: Path) -> ModelVersion:
        """Register the candidate of an evaluation. Raises GateNotPassed."""
        return register(load_recipe(recipe_path), self._report(evaluation), self._ports)

    def move_alias(self, alias: str, target: str | None, *, name: str, reason: str) -> AliasState:
        """Point an alias to a model, or back to the target before when none is given.

        Moving `champion` by hand ends a live rollout of the name, which compared with another champion.
        """
        ports = self._ports
        if target is None:
            state = roll_back(name, alias, actor=ports.actor, reason=reason, ports=ports)
        else:
            ref = self.find(target).ref
            state = set_alias(name, alias, target=ref, actor=ports.actor, reason=reason, ports=ports)
        if alias == CHAMPION:
            end_for_moved_champion(state, reason.strip(), ports)
        return state

    def revoke(self, name: str, reason: str) -> Revoked:
        """Take a model out of use for good, and end the live rollout that would have promoted it.

        Raises:
            UsageError: the reason is empty.
            UnknownReference: no such model version.
        """
        ports, model = self._ports, self.find(name)
        revoke(model.ref, actor=ports.actor, reason=reason, ports=ports)
        ended = end_for_revoked(model, reason.strip(), ports)
        pointing = [state.alias for state in ports.records.aliases() if state.target == model.ref]
        return Revoked(model, tuple(pointing), ended)

    def sweep(self) -> SweepReport:
        """Remove bytes that no record names and that are older than a day.

        Raises:
            UsageError: this blob store cannot be swept.
            StorageError: it is read-only.
        """
        ports = self._ports
        if not isinstance(ports.blobs, SweepableBlobs):
            raise UsageError(
                "this blob store cannot be swept: it does not tell when a blob was written; expected a local "
                "folder. Use the store's own rules for old objects."
            )
        return sweep_orphans(ports.records, ports.blobs, ports.clock())

    def _report(self, evaluation: str) -> EvalReport:
        report = self._find("evaluation", evaluation)
        assert isinstance(report, EvalReport)
        return report
