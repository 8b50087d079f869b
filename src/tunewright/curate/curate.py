"""The first stage: raw files to a sealed dataset version.

Reads every source, walks each row through the steps of its own, decides what rows mean to each other with the
vault's memory, seals the held-out side, and commits once. A second walk over the same files and rules returns
what is stored.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.clusters import effective_number
from tunewright.core.rows import load_split
from tunewright.curate.decide import Decided, decide_rows
from tunewright.curate.facts import facts_of, removed_by_reason, warnings_of
from tunewright.curate.gather import Gathered, gather
from tunewright.curate.language import load_identifier
from tunewright.curate.memory import VaultMemory
from tunewright.curate.readers import SourceFile, find_sources
from tunewright.curate.seal import (
    count_sources,
    dataset_digest,
    encode_lineage,
    encode_neighbours,
    encode_rejections,
    seal_splits,
)
from tunewright.curate.steps import make_rules
from tunewright.errors import AliasConflict, BlobCorrupt, WorkspaceBusy
from tunewright.ports import Commit, Ports, VaultSession
from tunewright.recipe import Recipe
from tunewright.records import DatasetVersion, Edge, EventDraft, Example
from tunewright.values import Digest, Ref, fingerprint, node

logger = logging.getLogger(__name__)

CODE_VERSION = 1
VAULT_HEAD = "vault"
ATTEMPTS = 2
"""How often to decide when another process moves the vault's memory in between."""


@dataclass(frozen=True, slots=True)
class _Vault:
    """The vault's memory as opened, and the head it was read from."""

    session: VaultSession
    memory: VaultMemory
    head: str | None


def curate(recipe: Recipe, ports: Ports) -> DatasetVersion:
    """Make, or find, the dataset version of a recipe.

    Raises:
        RecipeError, SourceUnreadable, TooManyRejections, EmptySplit, DataError: the input cannot make one.
        WorkspaceBusy: other processes kept curating in the same workspace.
        IntegrityError, StorageError: stored bytes are damaged, or the disk refuses.
    """
    ports.progress.start("curate")
    files = find_sources(recipe.data.sources, ports.data_root)
    key = dataset_fingerprint(recipe, files)
    found = ports.records.find("dataset", key)
    if isinstance(found, DatasetVersion):
        ports.progress.finish(f"{found.ref} is made already, {found.created_at:%Y-%m-%d %H:%M}; re-used")
        return found
    identify = load_identifier() if recipe.data.quality.languages else None
    gathered = gather(files, make_rules(recipe.data, identify), ports.progress)
    dataset = _decide_and_commit(recipe, key, gathered, ports)
    held_out = dataset.splits["held_out"].rows
    ports.progress.finish(
        f"{dataset.ref}: {dataset.rows_kept:,} of {dataset.rows_in:,} rows kept, {held_out:,} held out"
    )
    logger.info(
        "curated %s: %d kept, %d rejected", dataset.ref, dataset.rows_kept, sum(dataset.removed.values())
    )
    return dataset


def dataset_fingerprint(recipe: Recipe, files: Sequence[SourceFile]) -> Digest:
    """Name what a recipe makes of these files: same name, rules and bytes, wherever the files lie.

    The vault's memory and the parent are left out on purpose: making a version moves both, so with them no
    version would ever be found again. Re-use is safe, since recorded rows never change sides.
    """
    sources = [
        [file.digest, file.format, file.spec.model_dump(mode="json", exclude={"path", "format"})]
        for file in files
    ]
    inputs = {
        "name": recipe.name,
        "data": recipe.data.model_dump(mode="json", exclude={"sources"}),
        "sources": sorted(sources, key=lambda source: str(source[0])),
    }
    return fingerprint("curate", CODE_VERSION, inputs)


def _decide_and_commit(recipe: Recipe, key: Digest, gathered: Gathered, ports: Ports) -> DatasetVersion:
    """Decide with the memory as it is; once more when another process moved it meanwhile."""
    session = ports.vault.open("curate", node("dataset", recipe.name), ports.actor)
    ancestors = _ancestor_rows(recipe.name, ports)
    examples = [row.example for row in gathered.rows]
    for _ in range(ATTEMPTS):
        vault = _open_memory(session, ports)
        ports.progress.update(gathered.num_rows, "comparing rows")
        decided = decide_rows(examples, recipe.data, vault.memory, ancestors)
        try:
            return _commit(recipe, key, gathered, decided, vault, ports)
        except AliasConflict:
            logger.info("the vault's memory moved while %s was curated; deciding again", recipe.name)
    raise WorkspaceBusy(
        f"other processes curated {ATTEMPTS} times while {recipe.name} was being curated; expected the "
        "vault's memory to stand still. Run again when they have finished."
    )


def _open_memory(session: VaultSession, ports: Ports) -> _Vault:
    """Read the memory that the head names; raises BlobCorrupt when it is not what the head says."""
    head = ports.records.head(VAULT_HEAD)
    if head is None:
        return _Vault(session, VaultMemory(), None)
    digest, _, blob = head.partition(":")
    memory = VaultMemory.from_bytes(session.unseal(ports.blobs.get(Digest(blob))))
    if memory.digest != digest:
        raise BlobCorrupt(
            f"the vault's memory hashes to {memory.digest}; its head says {digest}. "
            "Run `tunewright models verify`."
        )
    return _Vault(session, memory, head)


def _ancestor_rows(name: str, ports: Ports) -> list[Example]:
    """Read the rows that any earlier version of this name trained on."""
    rows: dict[Digest, Example] = {}
    for version in ports.records.list("dataset", name):
        if isinstance(version, DatasetVersion):
            for split in ("train", "validation"):
                rows |= {example.id: example for example in load_split(version, split, ports.blobs)}
    return list(rows.values())


def _commit(
    recipe: Recipe, key: Digest, gathered: Gathered, decided: Decided, vault: _Vault, ports: Ports
) -> DatasetVersion:
    """Store the bytes, then commit the record with its edges, its event and the vault's new head."""
    draft = _draft(recipe, key, gathered, decided, vault, ports)
    head = vault.head
    if draft.vault_after != draft.vault_before or head is None:
        memory_blob = ports.blobs.put(vault.session.seal(decided.memory.to_bytes()))
        head = f"{draft.vault_after}:{memory_blob}"
    event = EventDraft(
        kind="curate",
        actor=ports.actor,
        subject=node("dataset", recipe.name),
        detail={
            "digest": draft.digest,
            "rows_in": draft.rows_in,
            "rows_kept": draft.rows_kept,
            "held_out": draft.splits["held_out"].digest,
        },
    )
    record = ports.records.commit(
        Commit(
            kind="dataset",
            name=recipe.name,
            make=lambda ref: draft.model_copy(update={"ref": ref}),
            event=event,
            edges=lambda ref: _edges(draft, ref),
            heads={VAULT_HEAD: (vault.head, head)},
        )
    )
    assert isinstance(record, DatasetVersion)
    return record


def _draft(
    recipe: Recipe, key: Digest, gathered: Gathered, decided: Decided, vault: _Vault, ports: Ports
) -> DatasetVersion:
    """Store all blobs and fill in the record; its version is set when it is committed."""
    rejections = [*gathered.rejections, *decided.rejections]
    sources = count_sources(gathered.rows_in, decided.kept, rejections)
    parent = ports.records.latest("dataset", recipe.name)
    dataset = DatasetVersion(
        ref=Ref(recipe.name, 1),
        digest=dataset_digest(decided.kept, rejections),
        fingerprint=key,
        parents=(parent.ref,) if isinstance(parent, DatasetVersion) else (),
        sources=sources,
        rows_in=gathered.num_rows,
        rows_kept=len(decided.kept),
        removed=removed_by_reason(rejections),
        splits=seal_splits(decided.kept, ports.blobs, vault.session),
        num_clusters=len({row.cluster for row in decided.kept}),
        effective_clusters=effective_number([row.cluster for row in decided.kept]),
        rejections=ports.blobs.put(encode_rejections(rejections)),
        lineage=ports.blobs.put(encode_lineage(decided.kept)),
        neighbours=ports.blobs.put(vault.session.seal(encode_neighbours(decided.neighbours))),
        vault_before=vault.memory.digest,
        vault_after=decided.memory.digest,
        report=facts_of(gathered, decided),
        warnings=warnings_of(sources, decided),
        created_at=ports.clock(),
    )
    assert dataset.rows_in == dataset.rows_kept + sum(dataset.removed.values()), "sums are open"
    return dataset


def _edges(dataset: DatasetVersion, ref: Ref) -> list[Edge]:
    child = node("dataset", ref)
    sources = [Edge(parent=node("source", one.digest), child=child, role="source") for one in dataset.sources]
    parents = [Edge(parent=node("dataset", one), child=child, role="dataset") for one in dataset.parents]
    return sources + parents
