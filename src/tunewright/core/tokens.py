"""The token plane, one for trainer, evaluation and engine: messages -> text -> ids -> supervised spans.

Text is rendered with the base's own chat template, once; ids follow from it without added tokens. Which
tokens carry labels is found by rendering prefixes and checking them token by token, since most templates
carry no generation marks. Holds no model and reads no file.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydantic import TypeAdapter, ValidationError
from tokenizers import Tokenizer

from tunewright.core.chat_template import compile_chat_template, special_tokens_of
from tunewright.errors import (
    BaseIncomplete,
    BlobCorrupt,
    EosNotSupervised,
    NothingSupervised,
    TemplateMismatch,
)
from tunewright.ports import BaseFiles
from tunewright.records import Message
from tunewright.values import Json, canonical_json

Chat = Sequence[Message | Mapping[str, str]]
"""Turns as records or as {"role", "content"} mappings."""


class ChatTokenizer:
    """A base's tokenizer with its chat template."""

    def __init__(
        self,
        tokenizer_json: str,
        tokenizer_config: Mapping[str, Json],
        chat_template: str,
        *,
        extra_eos_ids: Iterable[int] = (),
    ) -> None:
        """Load the three texts that make a tokenizer.

        Args:
            tokenizer_json: content of tokenizer.json.
            tokenizer_config: content of tokenizer_config.json.
            chat_template: the Jinja text.
            extra_eos_ids: further tokens that end a turn, as the model's configuration names them.

        Raises:
            BaseIncomplete: the tokenizer cannot be read or names no end-of-sequence token.
        """
        special = special_tokens_of(tokenizer_config)
        self._tokenizer = _load_tokenizer(tokenizer_json)
        self._template = compile_chat_template(chat_template, special)
        eos_id = self._id_of(special.get("eos_token"))
        if eos_id is None:
            raise BaseIncomplete(
                "the tokenizer names no end-of-sequence token that its vocabulary holds; expected "
                "`eos_token` in tokenizer_config.json. Without it an answer has no end to learn."
            )
        self.eos_id: int = eos_id
        self.eos_ids: frozenset[int] = frozenset({eos_id, *extra_eos_ids})
        """Every token that ends a turn; `eos_id` is one of them."""
        self.bos_id: int | None = self._id_of(special.get("bos_token"))
        self.pad_id: int | None = self._id_of(special.get("pad_token"))
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._special = tuple(token.content for token in added if token.special)

    @classmethod
    def from_base(cls, base: BaseFiles) -> Self:
        """Load the tokenizer of a base. Raises BaseIncomplete, naming the base's folder."""
        named = base.config.get("eos_token_id")
        extra = named if isinstance(named, list) else [named]
        try:
            return cls(
                base.tokenizer_json,
                base.tokenizer_config,
                base.chat_template,
                extra_eos_ids=[token for token in extra if isinstance(token, int)],
            )
        except BaseIncomplete as error:
            raise BaseIncomplete(f"base {base.ref.name!r} at {base.folder}: {error}") from error

    @property
    def vocabulary_size(self) -> int:
        """Tokens in the vocabulary, added ones included."""
        return self._tokenizer.get_vocab_size()

    def render(self, messages: Chat, *, add_generation_prompt: bool) -> str:
        """Render messages with the chat template. Raises TemplateMismatch when the template refuses them."""
        return self._template([_as_mapping(message) for message in messages], add_generation_prompt)

    def encode(self, messages: Chat, *, add_generation_prompt: bool) -> list[int]:
        """Render and encode; special tokens are those that the template writes, none is added."""
        return self.encode_text(self.render(messages, add_generation_prompt=add_generation_prompt))

    def encode_text(self, text: str) -> list[int]:
        """Encode text as it stands."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode, leaving special tokens out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def forged(self, messages: Chat) -> str | None:
        """Find a special token that a turn's own text spells; it would be read as the template's."""
        texts = [_as_mapping(message)["content"] for message in messages]
        return next((token for token in self._special if any(token in text for text in texts)), None)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Name each id as the vocabulary writes it, for people to look at."""
        return [self._tokenizer.id_to_token(token) or f"<{token}>" for token in ids]

    def _id_of(self, token: str | None) -> int | None:
        return None if token is None else self._tokenizer.token_to_id(token)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A row as it is trained on."""

    row: str
    """The example's id."""
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """Half-open ranges of positions whose token carries a label; each ends with an end-of-sequence token."""

    @property
    def num_supervised(self) -> int:
        """Tokens that carry a label."""
        return sum(end - start for start, end in self.spans)


def token_row(tokenizer: ChatTokenizer, row: str, messages: Chat, *, max_tokens: int) -> TokenRow:
    """Encode a row, find its labels, and cut it to length from the left of the prompt.

    Raises:
        TemplateMismatch: the template does not extend its own prefix, or writes the beginning twice.
        NothingSupervised: no token carries a label, or the last answer alone is too long.
        EosNotSupervised: an answer has no end-of-sequence token.
    """
    return truncate(supervise(tokenizer, row, messages), max_tokens, keep_first=tokenizer.bos_id)


def supervise(tokenizer: ChatTokenizer, row: str, messages: Chat) -> TokenRow:
    """Encode a row at full length and find the tokens of every assistant turn, its end included.

    Raises:
        TemplateMismatch: the template does not extend its own prefix, or writes the beginning twice.
        NothingSupervised: there is no assistant turn, or an empty one.
        EosNotSupervised: an answer has no end-of-sequence token.
    """
    ids = tokenizer.encode(messages, add_generation_prompt=False)
    if tokenizer.bos_id is not None and ids[:2] == [tokenizer.bos_id] * 2:
        raise TemplateMismatch(
            f"row {row}: the sequence begins with the beginning-of-sequence token twice; expected it once. "
            "The chat template writes it more than once."
        )
    turns = [index for index, message in enumerate(messages) if _as_mapping(message)["role"] == "assistant"]
    spans = tuple(_answer_span(tokenizer, row, messages, turn, ids) for turn in turns)
    if not spans:
        raise NothingSupervised(
            f"row {row}: none of its {len(messages)} turns is the assistant's, so no token carries a label; "
            "expected at least one assistant turn."
        )
    return TokenRow(row, tuple(ids), spans)


def _answer_span(
    tokenizer: ChatTokenizer, row: str, messages: Chat, turn: int, ids: Sequence[int]
) -> tuple[int, int]:
    """Find the token range of one assistant turn, from its first token to its end-of-sequence token."""
    before = tokenizer.encode(messages[:turn], add_generation_prompt=True)
    through = (
        ids
        if turn == len(messages) - 1
        else tokenizer.encode(messages[: turn + 1], add_generation_prompt=False)
    )
    for name, part in (("the prompt", before), ("the turns through the answer", through)):
        if list(ids[: len(part)]) != list(part):
            raise TemplateMismatch(
                f"row {row}, turn {turn + 1}: the tokens of {name} are not the first tokens of the whole "
                "chat; expected a template that extends its own prefix. The model would be served other "
                "tokens than it was trained on. Leave such rows out, or choose a base with a plain template."
            )
    ends = [at for at in range(len(before), len(through)) if ids[at] in tokenizer.eos_ids]
    if not ends:
        raise EosNotSupervised(
            f"row {row}, turn {turn + 1}: the answer has no end-of-sequence token (ids "
            f"{sorted(tokenizer.eos_ids)}); expected the template to write one after each assistant turn, "
            "else the model never learns to stop."
        )
    if ends[-1] == len(before):
        raise NothingSupervised(
            f"row {row}, turn {turn + 1}: the answer is empty; expected at least one token before its end."
        )
    return len(before), ends[-1] + 1


def truncate(row: TokenRow, max_tokens: int, *, keep_first: int | None = None) -> TokenRow:
    """Cut a row to at most `max_tokens` from the left; answers that would be cut into lose their labels.

    Args:
        row: a row with labels.
        max_tokens: longest row allowed, > 1.
        keep_first: the beginning-of-sequence token, kept in front when the row starts with it.

    Raises:
        NothingSupervised: the last answer, with one token before it, does not fit.
    """
    if len(row.ids) <= max_tokens:
        return row
    head = row.ids[:1] if keep_first is not None and row.ids[:1] == (keep_first,) else ()
    cut = len(row.ids) - max_tokens + len(head)
    shift = cut - len(head)
    spans = tuple((start - shift, end - shift) for start, end in row.spans if start > cut)
    if not spans or row.spans[-1][0] <= cut:
        start, end = row.spans[-1]
        raise NothingSupervised(
            f"row {row.row}: its last answer alone has {end - start} tokens and does not fit into max_tokens "
            f"{max_tokens}; expected max_tokens above the longest answer. Raise train.max_tokens, or leave "
            "the row out."
        )
    return replace(row, ids=head + row.ids[cut:], spans=spans)


def dump_token_rows(rows: Iterable[TokenRow]) -> bytes:
    """Write rows as JSON lines {"ids", "row", "spans"}, canonical, in the order given."""
    return b"".join(
        canonical_json({"row": row.row, "ids": row.ids, "spans": row.spans}) + b"\n" for row in rows
    )


_ROWS = TypeAdapter(list[TokenRow])


def load_token_rows(data: bytes) -> list[TokenRow]:
    """Read what `dump_token_rows` wrote. Raises BlobCorrupt."""
    try:
        return _ROWS.validate_python([json.loads(line) for line in data.splitlines()])
    except (ValidationError, ValueError) as error:
        raise BlobCorrupt(
            f"a token file does not parse: {error}; expected JSON lines with row, ids and spans. "
            "Run again to write it anew."
        ) from error


def _load_tokenizer(tokenizer_json: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises bare Exception for any malformed file
        raise BaseIncomplete(
            f"tokenizer.json cannot be read: {error}; expected the file that the `tokenizers` library writes"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _as_mapping(message: Message | Mapping[str, str]) -> Mapping[str, str]:
    if isinstance(message, Message):
        return {"role": message.role, "content": message.content}
    return message
