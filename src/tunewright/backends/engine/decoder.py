"""The running batch on a base model: prompts join, rows get their next tokens and leave, texts are scored.

Rows keep the order 0 to B-1 of their slots; `leave` puts the last row in the gap. Within a step tokens are
ordered by adapter, so that each adapter's rows lie side by side. Shapes: N tokens in a flat batch, B rows, V
vocabulary.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from tunewright.backends.engine.answer import Draw, Row
from tunewright.backends.engine.backbone import Backbone, FlatBatch
from tunewright.backends.engine.kv_cache import (
    JointAttention,
    KvCache,
    PromptAttention,
    Segment,
    StepAttention,
)
from tunewright.backends.engine.lora import Adapter, Group
from tunewright.backends.engine.sampling import Chooser, draw, scored


class BatchDecoder:
    """Decodes many rows at once; confined to one thread."""

    def __init__(self, backbone: Backbone, *, cache_bytes: int) -> None:
        """Start with no row.

        Args:
            backbone: the base.
            cache_bytes: memory that keys and values may take; one row is always let in.
        """
        self._backbone = backbone
        self._cache = KvCache(backbone.shape)
        self._cache_tokens = cache_bytes // backbone.shape.token_bytes
        self._rows: list[Row] = []
        self._choosers: list[Chooser] = []
        self._tokens_B = torch.empty(0, dtype=torch.long)
        self._positions_B = torch.empty(0, dtype=torch.long)
        self._order = _Order.of(())

    def has_room(self, rows: Sequence[Row]) -> bool:
        """Say whether these rows can join those that run, all at full length."""
        every = [*self._rows, *rows]
        return len(every) * max(row.num_tokens for row in every) <= self._cache_tokens or len(every) == 1

    @torch.inference_mode()
    def step(self, coming: Sequence[Row]) -> list[Draw]:
        """Add rows after the last one, and draw the next token of every row, in order.

        Prompts are read in the pass that steps the other rows, so that the weights are gone through once.
        """
        rows = [*self._rows, *coming]
        choosers = [*self._choosers, *(Chooser.of(row.sampling) for row in coming)]
        self._cache.reserve(len(rows), max(row.num_tokens for row in rows))
        tokens_B, draws = draw(self._logits(coming), choosers)
        self._positions_B = torch.cat(
            (self._positions_B + 1, torch.tensor([len(row.prompt) for row in coming], dtype=torch.long))
        )
        self._tokens_B, self._rows, self._choosers = tokens_B, rows, choosers
        if coming:
            self._order = _Order.of([row.adapter for row in rows])
        return draws

    def _logits(self, coming: Sequence[Row]) -> Tensor:
        """What the model gives for the next token of the running rows and then of the coming ones, BV."""
        num_running, order = len(self._rows), self._order
        reading = _flat(
            [row.prompt for row in coming], [row.adapter for row in coming], self._cache, num_running
        )
        if not num_running:
            return self._backbone.logits(reading)
        stepping = self._stepping()
        batch = _joined(stepping, reading) if coming else stepping
        logits_BV = self._backbone.logits(batch)
        if order.is_plain:
            return logits_BV
        return torch.cat((logits_BV[order.places_B], logits_BV[num_running:]))

    def _stepping(self) -> FlatBatch:
        """One token of every running row, ordered by adapter."""
        order, tokens_N, positions_N = self._order, self._tokens_B, self._positions_B
        if not order.is_plain:
            tokens_N, positions_N = tokens_N[order.slots_N], positions_N[order.slots_N]
        attention = StepAttention(order.slots_N, positions_N, self._cache)
        return FlatBatch(tokens_N, positions_N, attention, order.groups)

    @torch.inference_mode()
    def leave(self, index: int) -> None:
        """Drop a row; the last one takes its place."""
        last = len(self._rows) - 1
        if index != last:
            self._cache.move(last, index, int(self._positions_B[last]))
            self._rows[index], self._choosers[index] = self._rows[last], self._choosers[last]
            self._tokens_B[index], self._positions_B[index] = self._tokens_B[last], self._positions_B[last]
        self._rows, self._choosers = self._rows[:last], self._choosers[:last]
        self._tokens_B, self._positions_B = self._tokens_B[:last], self._positions_B[:last]
        self._order = _Order.of([row.adapter for row in self._rows])

    @torch.inference_mode()
    def score(self, texts: Sequence[Sequence[int]], adapter: Adapter | None) -> list[list[float]]:
        """Teacher-forced natural-log probability of each token; the first of each text is 0.0."""
        batch = _flat(texts, [adapter] * len(texts), self._cache, None)
        logits_NV = self._backbone.logits(
            FlatBatch(batch.tokens_N, batch.positions_N, batch.attention, batch.groups)
        )
        lengths = [len(text) for text in texts]
        parts = zip(logits_NV.split(lengths), batch.tokens_N.split(lengths), strict=True)
        return [scored(logits_TV, tokens_T) for logits_TV, tokens_T in parts]


class _Order:
    """How rows are ordered within a step: those of one adapter side by side."""

    def __init__(self, slots: list[int], groups: tuple[Group, ...]) -> None:
        self.slots_N = torch.tensor(slots, dtype=torch.long)
        self.places_B = torch.argsort(self.slots_N)
        self.groups = groups
        self.is_plain = slots == sorted(slots)

    @classmethod
    def of(cls, adapters: Sequence[Adapter | None]) -> "_Order":
        """Order rows by adapter, else as they are."""
        slots = sorted(range(len(adapters)), key=lambda slot: (_name(adapters[slot]), slot))
        return cls(slots, _groups([adapters[slot] for slot in slots], [1] * len(slots)))


def _name(adapter: Adapter | None) -> str:
    return "" if adapter is None else adapter.digest


def _groups(adapters: Sequence[Adapter | None], lengths: Sequence[int]) -> tuple[Group, ...]:
    """Find runs of rows with one adapter; `lengths` are their tokens."""
    groups: list[Group] = []
    end = 0
    for _, run in groupby(zip(adapters, lengths, strict=True), key=lambda item: _name(item[0])):
        members = list(run)
        start, end = end, end + sum(length for _, length in members)
        adapter = members[0][0]
        if adapter is not None:
            groups.append(Group(adapter, start, end))
    return tuple(groups)


def _flat(
    texts: Sequence[Sequence[int]],
    adapters: Sequence[Adapter | None],
    cache: KvCache,
    first_slot: int | None,
) -> FlatBatch:
    """Lay whole texts one after the other, wanting the logits of each last token.

    Args:
        texts: token ids of each row.
        adapters: of each row, those of one adapter side by side or not.
        cache: where keys and values go.
        first_slot: the slot of the first row, the others follow; None keeps nothing.
    """
    segments: list[Segment] = []
    for index, text in enumerate(texts):
        start = segments[-1].stop if segments else 0
        slot = None if first_slot is None else first_slot + index
        segments.append(Segment(start, start + len(text), slot))
    tokens_N = torch.tensor([token for text in texts for token in text], dtype=torch.long)
    positions_N = torch.tensor([place for text in texts for place in range(len(text))], dtype=torch.long)
    return FlatBatch(
        tokens_N,
        positions_N,
        PromptAttention(segments, cache),
        _groups(adapters, [len(text) for text in texts]),
        torch.tensor([segment.stop - 1 for segment in segments], dtype=torch.long),
    )


def _joined(stepping: FlatBatch, reading: FlatBatch) -> FlatBatch:
    """Put the prompts of coming rows behind the tokens of running ones."""
    num_first = stepping.tokens_N.shape[0]
    moved = [
        Group(group.adapter, group.start + num_first, group.stop + num_first) for group in reading.groups
    ]
    last_M = torch.arange(num_first) if reading.keep_M is None else reading.keep_M + num_first
    return FlatBatch(
        torch.cat((stepping.tokens_N, reading.tokens_N)),
        torch.cat((stepping.positions_N, reading.positions_N)),
        JointAttention(stepping.attention, num_first, reading.attention),
        (*stepping.groups, *moved),
        torch.cat((torch.arange(num_first), last_M)),
    )
