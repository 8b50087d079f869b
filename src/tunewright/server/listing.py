"""What GET /v1/models lists, and what keeps a champion from being served. Pure."""

from collections.abc import Iterator

from tunewright.errors import RequestRefused
from tunewright.server.routing import UNAVAILABLE, Table, names_served, route
from tunewright.server.seams import ServedModel


def served_models(table: Table, *, sees_versions: bool) -> list[ServedModel]:
    """List everything a caller may ask for and would be answered."""
    return list(_served(table, sees_versions=sees_versions))


def champion_problems(table: Table) -> tuple[list[str], bool]:
    """Say which champions are not served, and whether that should keep traffic away.

    A champion that this engine should serve and cannot load keeps traffic away; one that was revoked, or that
    needs another base, does not.
    """
    found = [
        reason
        for ref in table.champions.values()
        if (reason := table.left_out.get(table.models[ref].adapter))
    ]
    return [reason.reason for reason in found], any(reason.status == UNAVAILABLE for reason in found)


def _served(table: Table, *, sees_versions: bool) -> Iterator[ServedModel]:
    for name in names_served(table, sees_versions=sees_versions):
        try:
            found = route(name, table, sees_versions=sees_versions)
        except RequestRefused:  # listed nowhere; asking for it says why
            continue
        yield ServedModel(name, found.digest, found.model, found.note)
