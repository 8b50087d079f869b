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
from tunewright.backends.engine.kv_cache import KvCache, PromptAttention, Segment, StepAttention
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
    def join(self, rows: Sequence[Row]) -> list[Draw]:
        """Read the prompts of new rows and draw their first tokens, in order."""
        first = len(self._rows)
        every = [*self._rows, *rows]
        self._cache.reserve(len(every), max(row.num_tokens for row in every))
        prompts = [row.prompt for row in rows]
        batch = _flat(prompts, [row.adapter for row in rows], self._cache, first)
        choosers = [Chooser.of(row.sampling) for row in rows]
        tokens_B, draws = draw(self._backbone.logits(batch), choosers)
        self._rows, self._choosers = every, [*self._choosers, *choosers]
        lengths_B = torch.tensor([len(prompt) for prompt in prompts])
        self._tokens_B = torch.cat((self._tokens_B, tokens_B))
        self._positions_B = torch.cat((self._positions_B, lengths_B))
        self._order = _Order.of([row.adapter for row in every])
        return draws

    @torch.inference_mode()
    def step(self) -> list[Draw]:
        """Draw the next token of every row, in order."""
        order = self._order
        tokens_N, positions_N = self._tokens_B, self._positions_B
        if not order.is_plain:
            tokens_N, positions_N = tokens_N[order.slots_N], positions_N[order.slots_N]
        attention = StepAttention(order.slots_N, positions_N, self._cache)
        logits_NV = self._backbone.logits(FlatBatch(tokens_N, positions_N, attention, order.groups))
        logits_BV = logits_NV if order.is_plain else logits_NV[order.places_B]
        self._tokens_B, draws = draw(logits_BV, self._choosers)
        self._positions_B = self._positions_B + 1
        return draws

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
    tokens_N = torch.tensor([token for text in texts for token in text])
    positions_N: Tensor = torch.cat([torch.arange(len(text)) for text in texts])
    return FlatBatch(
        tokens_N,
        positions_N,
        PromptAttention(segments, cache),
        _groups(adapters, [len(text) for text in texts]),
        torch.tensor([segment.stop - 1 for segment in segments]),
    )
