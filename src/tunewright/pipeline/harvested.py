"""Harvests as sources of the next dataset version: their files, and the recipe that reads them too."""

from collections.abc import Sequence
from pathlib import Path

from tunewright.backends.disk import disk_error, write_whole
from tunewright.curate.normalize import clean_turns, validate_turns
from tunewright.curate.pii import make_scanner, mask_messages
from tunewright.curate.problem import Problem
from tunewright.curate.shapes import shape_row
from tunewright.errors import BlobCorrupt
from tunewright.feedback.choose import Mask, Turns
from tunewright.feedback.harvest import harvests_of
from tunewright.ports import Blobs, Ports
from tunewright.recipe import DataSection, Recipe, SourceSpec
from tunewright.records import Harvest, Message
from tunewright.values import Json, digest_bytes


def with_harvests(recipe: Recipe, ports: Ports, harvest_dir: Path) -> Recipe:
    """Give a recipe one more source for every harvest of its name; harvests accumulate.

    A file that is missing is written again from its blob.

    Raises:
        BlobCorrupt: a harvested file was changed by hand.
        BlobMissing, StorageError: a file cannot be written again.
    """
    if not recipe.flywheel.use_harvest:
        return recipe
    found = harvests_of(recipe.name, ports.records)
    paths = [write_harvest(one, ports.blobs, harvest_dir) for one in found]
    return add_sources(recipe, paths)


def add_sources(recipe: Recipe, paths: Sequence[Path]) -> Recipe:
    """Add harvested files to a recipe's sources: one user's rows stay on one side of the split."""
    if not paths:
        return recipe
    added = tuple(SourceSpec(path=str(path), format="jsonl", group="user", time="time") for path in paths)
    data = recipe.data.model_copy(update={"sources": (*recipe.data.sources, *added)})
    return recipe.model_copy(update={"data": data})


def harvest_path(one: Harvest, harvest_dir: Path) -> Path:
    """Name the file of a harvest."""
    return (harvest_dir / f"{one.ref.name}-{one.ref.version}.jsonl").absolute()


def write_harvest(one: Harvest, blobs: Blobs, harvest_dir: Path) -> Path:
    """Make sure that a harvest's file is there and holds what was committed.

    Raises:
        BlobCorrupt: it holds something else.
        BlobMissing, StorageError: it cannot be written.
    """
    path = harvest_path(one, harvest_dir)
    try:
        found = digest_bytes(path.read_bytes())
    except FileNotFoundError:
        write_whole(path, blobs.get(one.blob), scratch=harvest_dir, mode=0o600)
        return path
    except OSError as error:
        raise disk_error(error, path) from error
    if found != one.blob:
        raise BlobCorrupt(
            f"{path} is not what harvest {one.ref} committed ({found[:12]}; expected {one.blob[:12]}). "
            "Delete the file, and it is written again; keep rows of your own in a file of your own."
        )
    return path


def make_mask(data: DataSection) -> Mask:
    """Make what a harvest masks rows with: curation's own steps, under the recipe's rules.

    Rows that curation would call invalid are refused here, so that they never count against
    `max_rejected_fraction`. Raises RecipeError.
    """
    scanner = make_scanner(data.pii)
    spec = SourceSpec(path="harvest")

    def mask(turns: Turns) -> Turns | str:
        written: list[Json] = [dict(turn) for turn in turns]
        shaped = shape_row({"messages": written}, spec)
        if isinstance(shaped, Problem):
            return shaped.reason
        cleaned = clean_turns(shaped.turns, None)
        problem = validate_turns(cleaned)
        if problem:
            return problem.reason
        messages = [Message.model_validate({"role": t.role, "content": t.content}) for t in cleaned]
        masked = mask_messages(messages, scanner)
        if masked.problem:
            return masked.problem.reason
        return tuple({"role": turn.role, "content": turn.content} for turn in masked.messages)

    return mask
