"""Verbs on model versions: find, explain, verify, as-of, card, waive, alias, register."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tunewright.pipeline.load import load_recipe
from tunewright.ports import Ports
from tunewright.records import AliasState, EvalReport, ModelVersion, Record, Waiver
from tunewright.registry.aliases import roll_back, set_alias
from tunewright.registry.asof import as_of
from tunewright.registry.card import card
from tunewright.registry.explain import ModelExplanation, RowUse, digest_in, explain_model, explain_row
from tunewright.registry.register import register
from tunewright.registry.verify import Verification, verify_model, verify_workspace
from tunewright.registry.waive import waive
from tunewright.values import Ref

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
        """Point an alias to a model, or back to the target before when none is given."""
        ports = self._ports
        if target is None:
            return roll_back(name, alias, actor=ports.actor, reason=reason, ports=ports)
        ref = self.find(target).ref
        return set_alias(name, alias, target=ref, actor=ports.actor, reason=reason, ports=ports)

    def _report(self, evaluation: str) -> EvalReport:
        report = self._find("evaluation", evaluation)
        assert isinstance(report, EvalReport)
        return report
