"""Which model a name means: the routing table, made of what the registry says and what is loaded. Pure.

A table is never changed: a promotion, a roll back or a revocation makes a new one that takes its place.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from tunewright.core.references import nearest
from tunewright.errors import RequestRefused
from tunewright.records import LIVE_PHASES, BaseModelRef, ModelVersion, Rollout, RolloutState
from tunewright.values import NAME, Ref

BASE = "base"
CHAMPION = "champion"

PROBE_MISMATCH = "probe_mismatch"
"""How the reason begins when a loaded adapter did not answer its probes as recorded."""
UNAVAILABLE = 503
NOT_FOUND = 404

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ASKED = re.compile(
    rf"(?P<name>{NAME.pattern})(?::(?P<alias>{NAME.pattern})|@(?P<version>[1-9][0-9]{{0,8}}))?"
)


@dataclass(frozen=True, slots=True)
class View:
    """What the registry says."""

    models: Mapping[Ref, ModelVersion] = field(default_factory=dict[Ref, ModelVersion])
    revoked: Mapping[str, str] = field(default_factory=dict[str, str])
    """Adapter digest -> by whom, when and why."""
    aliases: Mapping[tuple[str, str], Ref] = field(default_factory=dict[tuple[str, str], Ref])
    rollouts: Mapping[str, tuple[Rollout, RolloutState]] = field(
        default_factory=dict[str, tuple[Rollout, RolloutState]]
    )
    """Live ones, by model name."""
    former: Mapping[Ref, datetime] = field(default_factory=dict[Ref, datetime])
    """Versions that were champion lately -> until when they stay loaded."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the engine holds."""

    base: BaseModelRef
    resident: AbstractSet[str] = frozenset()
    """Digests that were loaded and passed their probes."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Digest -> why it cannot be loaded."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why a version is never routed to."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """Everything a request is routed by."""

    base: BaseModelRef
    models: Mapping[Ref, ModelVersion]
    by_digest: Mapping[str, ModelVersion]
    aliases: Mapping[tuple[str, str], Ref]
    champions: Mapping[str, Ref]
    """Name -> version that answers; lags behind the alias while an adapter is loaded."""
    rollouts: Mapping[str, tuple[Rollout, RolloutState]]
    """Live rollouts that compare with the version that answers."""
    left_out: Mapping[str, LeftOut]
    """Digest -> why it is not served."""
    resident: AbstractSet[str]


@dataclass(frozen=True, slots=True)
class Route:
    """What answers."""

    digest: str
    name: str | None = None
    model: Ref | None = None
    rollout: tuple[Rollout, RolloutState] | None = None
    """The live rollout that this request may be evidence of."""
    note: str | None = None


def choose_base(champions: Sequence[ModelVersion]) -> BaseModelRef | None:
    """Pick the base that most champions were trained on; the first by name of several."""
    counted = Counter(model.base.digest for model in champions)
    ranked = sorted(champions, key=lambda model: (-counted[model.base.digest], str(model.ref)))
    return ranked[0].base if ranked else None


def build_table(
    view: View, loaded: Loaded, *, halted: AbstractSet[Ref] = frozenset(), before: Table | None = None
) -> Table:
    """Put together what requests are routed by.

    Args:
        view: what the registry says.
        loaded: what the engine holds.
        halted: rollouts whose candidate must not be asked any more, whatever the registry says yet.
        before: the table so far; its champion answers on while a new one is loaded.
    """
    left_out: dict[str, LeftOut] = {
        model.adapter: reason
        for model in view.models.values()
        if (reason := _left_out(model, view, loaded)) is not None
    }
    champions = {
        name: _answering(name, target, view, loaded, left_out, before)
        for (name, alias), target in view.aliases.items()
        if alias == CHAMPION and target in view.models
    }
    return Table(
        base=loaded.base,
        models=view.models,
        by_digest={model.adapter: model for model in view.models.values()},
        aliases=view.aliases,
        champions=champions,
        rollouts={
            name: (rollout, state)
            for name, (rollout, state) in view.rollouts.items()
            if rollout.ref not in halted
            and state.phase in LIVE_PHASES
            and champions.get(name) == rollout.incumbent
        },
        left_out=left_out,
        resident=frozenset(loaded.resident),
    )


def wanted(view: View, now: datetime) -> list[ModelVersion]:
    """List the versions that stay loaded: champions, both arms of live rollouts, champions until lately."""
    refs = [target for (_, alias), target in sorted(view.aliases.items()) if alias == CHAMPION]
    for rollout, _ in view.rollouts.values():
        refs += [rollout.incumbent, rollout.candidate]
    refs += [ref for ref, until in view.former.items() if now < until]
    return [view.models[ref] for ref in dict.fromkeys(refs) if ref in view.models]


def route(asked: str, table: Table, *, sees_versions: bool) -> Route:
    """Say what answers a request.

    Args:
        asked: `base`, a name, `name:alias`, `name@version`, or an adapter's digest.
        table: what is served.
        sees_versions: whether the caller's role may ask for more than champions.

    Raises:
        RequestRefused: 404 nothing of this name is served, 403 the role may not ask for it, 503 it cannot be
            served now.
    """
    if asked == BASE:
        nothing_yet = None if table.champions else "no model has a champion yet, so the base answers"
        return Route(BASE, note=nothing_yet)
    match = _ASKED.fullmatch(asked)
    name = match["name"] if match and not _DIGEST.fullmatch(asked) else None
    if match is None or name is None:
        return _by_digest(asked, table, sees_versions=sees_versions)
    if match["version"] is None and match["alias"] in (None, CHAMPION):
        return _champion(asked, name, table, sees_versions=sees_versions)
    _require_viewer(asked, sees_versions=sees_versions)
    if match["version"] is not None:
        return _version(asked, Ref(name, int(match["version"])), table)
    target = table.aliases.get((name, match["alias"]))
    if target is None:
        raise _unknown(asked, table, sees_versions=True)
    return _version(asked, target, table)


def names_served(table: Table, *, sees_versions: bool) -> list[str]:
    """List what may be asked for: the base and champions; versions and other aliases for some roles."""
    names = [BASE, *sorted({ref.name for ref in table.models})]
    if not sees_versions:
        return names
    aliases = [f"{name}:{alias}" for name, alias in sorted(table.aliases)]
    return [*names, *aliases, *map(str, sorted(table.models))]


def _answering(
    name: str,
    target: Ref,
    view: View,
    loaded: Loaded,
    left_out: Mapping[str, LeftOut],
    before: Table | None,
) -> Ref:
    """Keep the champion so far while its successor is being loaded."""
    model, previous = view.models[target], before.champions.get(name) if before else None
    if previous is None or model.adapter in loaded.resident or model.adapter in left_out:
        return target
    adapter = view.models[previous].adapter if previous in view.models else None
    can_stay = adapter is not None and adapter in loaded.resident and adapter not in left_out
    return previous if can_stay else target


def _left_out(model: ModelVersion, view: View, loaded: Loaded) -> LeftOut | None:
    if model.adapter in view.revoked:
        return LeftOut(NOT_FOUND, f"model {model.ref} was {view.revoked[model.adapter]}")
    if model.base.digest != loaded.base.digest:
        return LeftOut(
            NOT_FOUND,
            f"model {model.ref} was trained on base {model.base.name} ({model.base.digest[:12]}), and this "
            f"server runs {loaded.base.name} ({loaded.base.digest[:12]}); one server runs one base, "
            f"`tunewright serve --base {model.base.name}` runs that one",
        )
    if model.adapter in loaded.refused:
        return LeftOut(UNAVAILABLE, f"model {model.ref} cannot be served: {loaded.refused[model.adapter]}")
    return None


def _champion(asked: str, name: str, table: Table, *, sees_versions: bool) -> Route:
    ref = table.champions.get(name)
    if ref is None:
        if not any(known.name == name for known in table.models):
            raise _unknown(asked, table, sees_versions=sees_versions)
        note = f"{name} has no champion yet, so the base answers; `tunewright models alias` sets one"
        return Route(BASE, name=name, note=note)
    digest = _servable(table.models[ref], table)
    return Route(digest, name, ref, rollout=table.rollouts.get(name) if asked == name else None)


def _version(asked: str, ref: Ref, table: Table) -> Route:
    if ref not in table.models:
        raise _unknown(asked, table, sees_versions=True)
    return Route(_servable(table.models[ref], table), ref.name, ref)


def _by_digest(asked: str, table: Table, *, sees_versions: bool) -> Route:
    if not _DIGEST.fullmatch(asked):
        raise _unknown(asked, table, sees_versions=sees_versions)
    _require_viewer(asked, sees_versions=sees_versions)
    if asked not in table.by_digest:
        raise _unknown(asked, table, sees_versions=True)
    model = table.by_digest[asked]
    return Route(_servable(model, table), model.ref.name, model.ref)


def _servable(model: ModelVersion, table: Table) -> str:
    reason = table.left_out.get(model.adapter)
    if reason is None:
        return model.adapter
    code = "model_not_found" if reason.status == NOT_FOUND else "model_unavailable"
    raise RequestRefused(
        f"{reason.reason}. GET /v1/models lists what is served.", reason.status, code, "model"
    )


def _require_viewer(asked: str, *, sees_versions: bool) -> None:
    if not sees_versions:
        raise RequestRefused(
            f"model {asked!r:.100} names a version, and this key's role is caller; expected a name such as "
            "`shop`, or a key of role viewer or above.",
            403,
            "role_too_low",
            "model",
        )


def _unknown(asked: str, table: Table, *, sees_versions: bool) -> RequestRefused:
    near = nearest(asked[:256], names_served(table, sees_versions=sees_versions))
    return RequestRefused(
        f"there is no model {asked!r:.100}; you may ask for: {', '.join(near)}. "
        "GET /v1/models lists everything.",
        404,
        "model_not_found",
        "model",
    )
