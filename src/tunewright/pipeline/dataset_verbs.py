"""Verbs on dataset versions: show, why, rejects, tokens, card."""

from collections.abc import Callable
from dataclasses import dataclass

from tunewright.core.rows import decode_examples
from tunewright.core.tokens import ChatTokenizer, TokenRow, token_row
from tunewright.curate.card import dataset_card
from tunewright.curate.why import Answer, why
from tunewright.errors import UnknownReference
from tunewright.ports import Ports
from tunewright.records import DatasetVersion, Record, Rejection

Find = Callable[[str, str], Record]
"""(kind, `name@version` or `name`) -> record; raises UnknownReference."""


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One training row as the trainer sees it."""

    row: str
    tokens: tuple[tuple[int, str, bool], ...]
    """(id, text, whether it is supervised), in order."""


class DatasetVerbs:
    """What a user asks of dataset versions."""

    def __init__(self, ports: Ports, find: Find) -> None:
        self._ports = ports
        self._find = find

    def find(self, name: str) -> DatasetVersion:
        """Read a dataset by `name@version`, or the latest by `name`. Raises UnknownReference."""
        dataset = self._find("dataset", name)
        assert isinstance(dataset, DatasetVersion)
        return dataset

    def all(self) -> list[DatasetVersion]:
        """List all dataset versions, oldest first."""
        return [one for one in self._ports.records.list("dataset") if isinstance(one, DatasetVersion)]

    def why(self, row: str, name: str | None) -> list[tuple[DatasetVersion, Answer]]:
        """Say what became of a row, in one dataset or in the latest version of every name that knows it."""
        if name is not None:
            dataset = self.find(name)
            return [(dataset, answer) for answer in why(row, dataset, self._ports.blobs)]
        latest = {dataset.ref.name: dataset for dataset in self.all()}
        if not latest:
            raise UnknownReference(
                f"row {row!r}: this workspace holds no dataset yet. `tunewright data build RECIPE` makes "
                "one; --workspace names another."
            )
        answers = [(d, answer) for d in latest.values() for answer in why(row, d, self._ports.blobs)]
        return [pair for pair in answers if pair[1].outcome != "unknown"] or answers

    def rejects(self, name: str) -> list[Rejection]:
        """List every removed row, sorted by file and line."""
        lines = self._ports.blobs.get(self.find(name).rejections).splitlines()
        return [Rejection.model_validate_json(line) for line in lines]

    def tokens(self, name: str, *, base: str, count: int, max_tokens: int) -> list[ShownRow]:
        """Tokenise the first training rows of a dataset for a base, ids and mask as the trainer gets them."""
        tokenizer = ChatTokenizer.from_base(self._ports.bases.resolve(base))
        examples = decode_examples(self._ports.blobs.get(self.find(name).splits["train"].blob))
        rows = [token_row(tokenizer, e.id, e.messages, max_tokens=max_tokens) for e in examples[:count]]
        return [_shown(row, tokenizer) for row in rows]

    def card(self, name: str) -> str:
        """Describe a dataset version as Markdown."""
        return dataset_card(self.find(name))


def _shown(row: TokenRow, tokenizer: ChatTokenizer) -> ShownRow:
    texts = tokenizer.tokens(row.ids)
    supervised = {at for start, end in row.spans for at in range(start, end)}
    cells = zip(row.ids, texts, strict=True)
    return ShownRow(row.row, tuple((id_, text, at in supervised) for at, (id_, text) in enumerate(cells)))
