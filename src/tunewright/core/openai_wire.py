"""Requests in the OpenAI wire format: bytes in, typed and bounded requests out. Pure.

Every field is known by name: one that is not (`api_base`, `lora_path`, ...) is refused, so is one that asks
for something the built-in engine does not do. What the replies look like is in `openai_replies`.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunewright.core.json_bounds import refuse_wide_objects
from tunewright.errors import RequestRefused
from tunewright.values import Json

MAX_BODY_BYTES = 8 * 2**20
MAX_MESSAGES = 2048
MAX_PROMPTS = 256
MAX_TOKENS_ASKED = 2**20
MAX_CHOICES = 8
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_LOGPROBS = 20
MAX_SEED = 2**63 - 1
DEFAULT_TEXT_TOKENS = 16
"""What `/v1/completions` generates when nobody says, as OpenAI has it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


_Body = TypeVar("_Body", bound=_Strict)


class _TextPart(_Strict):
    type: Literal["text"]
    text: str


class _Turn(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str | Annotated[list[_TextPart], Field(max_length=MAX_MESSAGES, fail_fast=True)]

    def plain(self) -> dict[str, str]:
        """Join the parts of the content."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text}


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class _TextFormat(_Strict):
    type: Literal["text"]


_Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
_TokenId = Annotated[int, Field(ge=0, lt=2**31)]
_TokenIds = Annotated[list[_TokenId], Field(min_length=1, fail_fast=True)]
_TokensAsked = Annotated[int, Field(ge=1, le=MAX_TOKENS_ASKED)]
_Turns = Annotated[list[_Turn], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


class _Generating(_Strict):
    """What both ways of asking for text share."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    seed: Annotated[int, Field(ge=-MAX_SEED, le=MAX_SEED)] | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=MAX_STOPS, fail_fast=True)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    """Accepted, not used."""
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    """Only 0: this engine samples from the model as it is."""
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None

    def stops(self) -> tuple[str, ...]:
        """Stop strings as a tuple."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class _Chat(_Generating):
    messages: _Turns
    max_tokens: _TokensAsked | None = None
    max_completion_tokens: _TokensAsked | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    response_format: _TextFormat | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("max_tokens and max_completion_tokens are two names of one limit; give one")
        return self


class _Text(_Generating):
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | _TokenIds
        | Annotated[list[_TokenIds], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    )
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS_ASKED)] | None = None
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.echo != (self.max_tokens == 0):
            raise ValueError("echo: true and max_tokens: 0 go together (score a text), or neither is given")
        if self.echo and (self.n > 1 or self.stream or self.logprobs is None):
            raise ValueError("scoring a text (echo: true) needs logprobs, n: 1 and no stream")
        return self


class _Tokenize(_Strict):
    model: str | None = None
    messages: _Turns | None = None
    prompt: str | None = None
    add_generation_prompt: bool = True

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either messages or prompt")
        return self


class _LoadAdapter(_Strict):
    lora_name: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]


class _UnloadAdapter(_Strict):
    lora_name: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Prompt = str | tuple[int, ...] | tuple[dict[str, str], ...]
"""Text, token ids, or the turns of a chat."""


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What is to be answered or scored, whichever endpoint it came by."""

    is_chat: bool
    model: str
    prompts: tuple[Prompt, ...]
    max_tokens: int | None
    """None: as many as the context holds."""
    temperature: float
    top_p: float
    seed: int | None
    """None: any."""
    num_choices: int
    """Answers to each prompt."""
    stops: tuple[str, ...]
    num_logprobs: int | None
    """None: no log-probabilities; n: that of the chosen token and of the n likeliest."""
    is_streaming: bool
    wants_usage_chunk: bool
    is_scoring: bool
    """Teacher-forced log-probabilities of the prompt; nothing is generated."""


def parse_chat(body: bytes) -> TextRequest:
    """Read the body of POST /v1/chat/completions. Raises RequestRefused."""
    chat = _read(_Chat, body)
    num_logprobs = (chat.top_logprobs or 0) if chat.logprobs else None
    max_tokens = chat.max_completion_tokens if chat.max_tokens is None else chat.max_tokens
    return _text_request(chat, (tuple(turn.plain() for turn in chat.messages),), max_tokens, num_logprobs)


def parse_text(body: bytes) -> TextRequest:
    """Read the body of POST /v1/completions. Raises RequestRefused."""
    text = _read(_Text, body)
    max_tokens = DEFAULT_TEXT_TOKENS if text.max_tokens is None else text.max_tokens
    return _text_request(text, _prompts(text.prompt), max_tokens, text.logprobs)


def parse_tokenize(body: bytes) -> tuple[Prompt, bool]:
    """Read the body of POST /tokenize: the prompt, and whether to open the answer. Raises RequestRefused."""
    request = _read(_Tokenize, body)
    if request.messages is None:
        return request.prompt or "", False
    return tuple(turn.plain() for turn in request.messages), request.add_generation_prompt


def parse_load(body: bytes) -> tuple[str, str]:
    """Read the body of POST /v1/load_lora_adapter: digest and folder. Raises RequestRefused."""
    request = _read(_LoadAdapter, body)
    return request.lora_name, request.lora_path


def parse_unload(body: bytes) -> str:
    """Read the body of POST /v1/unload_lora_adapter: the digest. Raises RequestRefused."""
    return _read(_UnloadAdapter, body).lora_name


def _text_request(
    asked: _Chat | _Text, prompts: tuple[Prompt, ...], max_tokens: int | None, num_logprobs: int | None
) -> TextRequest:
    return TextRequest(
        is_chat=isinstance(asked, _Chat),
        model=asked.model,
        prompts=prompts,
        max_tokens=max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=asked.seed,
        num_choices=asked.n,
        stops=asked.stops(),
        num_logprobs=num_logprobs,
        is_streaming=bool(asked.stream),
        wants_usage_chunk=asked.stream_options is not None and asked.stream_options.include_usage,
        is_scoring=isinstance(asked, _Text) and asked.echo,
    )


def _prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> tuple[Prompt, ...]:
    if isinstance(prompt, str):
        return (prompt,)
    ids = tuple(item for item in prompt if isinstance(item, int))
    if ids:
        return (ids,)
    return tuple(
        item if isinstance(item, str) else tuple(item) for item in prompt if not isinstance(item, int)
    )


def _read(shape: type[_Body], body: bytes) -> _Body:
    if len(body) > MAX_BODY_BYTES:
        raise RequestRefused(
            f"the body has {len(body)} bytes; expected at most {MAX_BODY_BYTES}", 413, "body_too_large"
        )
    try:
        refuse_wide_objects(body)
        return shape.model_validate_json(body)
    except ValidationError as error:
        _refuse(shape, error)


def _refuse(shape: type[_Strict], error: ValidationError) -> NoReturn:
    """Turn the first complaint into a message that names the field."""
    complaints: list[Any] = list(error.errors(include_url=False))  # Any: pydantic's own loose dictionaries
    alike = [item for item in complaints if item["loc"][:1] == complaints[0]["loc"][:1]]
    # of several forms that a field may have, the one it comes nearest to
    first = max(alike, key=lambda item: (not item["type"].endswith("_type"), len(item["loc"])))
    kind, location = first["type"], [str(part) for part in first["loc"] if _is_place(part)]
    param = location[0] if location else None
    if kind == "json_invalid":
        raise RequestRefused(f"the body is not JSON: {first['msg']}; expected one JSON object in UTF-8")
    if kind == "extra_forbidden":
        known = ", ".join(sorted(shape.model_fields)) if len(location) == 1 else "those of the OpenAI format"
        raise RequestRefused(
            f"unknown field {'.'.join(location)!r:.200}; expected only {known}",
            code="unknown_field",
            param=param,
        )
    raise RequestRefused(f"{'.'.join(location) or 'the body'}: {first['msg']}{_shown(first)}", param=param)


def _is_place(part: int | str) -> bool:
    """Tell fields and indexes from pydantic's names of types."""
    return isinstance(part, int) or (part.isidentifier() and part not in ("str", "int"))


def _shown(complaint: dict[str, Json]) -> str:
    """Quote a small offending value, never a whole body."""
    value = complaint.get("input")
    return f"; got {value!r:.80}" if isinstance(value, str | int | float | bool) else ""
