"""What curation did with every line of the demo's files, gathered from a dataset version."""

from tunewright.core.rows import load_split
from tunewright.demo.truth import Fate, Place, read_fates
from tunewright.ports import Ports
from tunewright.records import DatasetVersion, Example, Rejection, Split
from tunewright.values import node


def fates_of(dataset: DatasetVersion, ports: Ports) -> dict[Place, Fate]:
    """Gather the fate of every line read.

    Opens the vault for an audit, since tags stand in held-out rows too.
    """
    session = ports.vault.open("audit", node("dataset", dataset.ref), ports.actor)
    kept: dict[Split, list[Example]] = {
        split: load_split(dataset, split, ports.blobs, session) for split in dataset.splits
    }
    lines = ports.blobs.get(dataset.rejections).splitlines()
    return read_fates([Rejection.model_validate_json(line) for line in lines], kept)
