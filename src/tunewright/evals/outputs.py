"""What arms answered: generation through engines, and the form answers are stored in.

All arms of one engine are asked in one interleaved queue, so that none meets a warmer or busier machine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter, ValidationError

from tunewright.core.scorers import Answer
from tunewright.core.tokens import ChatTokenizer, TokenRow, supervise, truncate
from tunewright.errors import BlobCorrupt, EngineFailed, TokenError
from tunewright.evals.items import Chat
from tunewright.evals.suites import Suite
from tunewright.ports import Engine, GenerateRequest
from tunewright.records import Arm
from tunewright.values import canonical_json

Outputs = Mapping[str, Mapping[str, Answer]]
"""Suite -> row -> answer of one arm."""

BASE = "base"
"""How requests name an engine's own weights; the reply may name them by their digest."""

LOGPROB_BATCH_ROWS = 32

_OUTPUTS = TypeAdapter(dict[str, dict[str, Answer]])


@dataclass(frozen=True, slots=True)
class Asked:
    """One arm and what it is asked."""

    arm: Arm
    engine: Engine
    model: str
    """`base` or the digest of a loaded adapter."""
    chats: Mapping[str, Mapping[str, Chat]]
    """Suite -> row -> messages."""


def num_requests(asked: Sequence[Asked]) -> int:
    """Count the answers to be generated."""
    return sum(len(chats) for one in asked for chats in one.chats.values())


def ask_arms(
    asked: Sequence[Asked], max_tokens: int, on_done: Callable[[int], None]
) -> dict[Arm, dict[str, dict[str, Answer]]]:
    """Generate every arm's answers, greedily; arms of one engine are interleaved row by row.

    Args:
        asked: the arms.
        max_tokens: longest answer.
        on_done: told the number finished so far.

    Raises:
        EngineFailed: an engine failed, or another model answered than was asked.
    """
    outputs: dict[Arm, dict[str, dict[str, Answer]]] = {one.arm: {} for one in asked}
    finished = 0
    engines = {id(one.engine): one.engine for one in asked}
    for key, engine in engines.items():
        queue = _interleave([one for one in asked if id(one.engine) == key])
        start = finished
        chats = [(one.model, chat) for one, _, _, chat in queue]
        answers = ask(engine, chats, max_tokens, lambda done, start=start: on_done(start + done))
        for (one, suite, row, _), answer in zip(queue, answers, strict=True):
            outputs[one.arm].setdefault(suite, {})[row] = answer
        finished += len(queue)
    return outputs


def ask(
    engine: Engine,
    chats: Sequence[tuple[str, Chat]],
    max_tokens: int,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Ask (model, messages) pairs, greedily, and check who answered. Raises EngineFailed."""
    requests = [GenerateRequest(messages=chat, model=model, max_tokens=max_tokens) for model, chat in chats]
    generations = engine.generate(requests, on_done=on_done)
    adapters = {model for model, _ in chats} - {BASE}
    answers: list[Answer] = []
    for request, generation in zip(requests, generations, strict=True):
        if generation.model != request.model and (request.model != BASE or generation.model in adapters):
            raise EngineFailed(
                f"model {request.model} was asked and {generation.model} answered; expected the engine to "
                "serve the model it is asked for. Run again; if it recurs, report a bug."
            )
        answers.append(
            Answer(
                text=generation.text,
                finish_reason=generation.finish_reason,
                latency_s=generation.latency_s,
                num_tokens=generation.num_tokens,
            )
        )
    return answers


def add_likelihoods(
    outputs: Outputs,
    suites: Sequence[Suite],
    asked: Asked,
    *,
    tokenizer: ChatTokenizer,
    max_tokens: int,
) -> dict[str, dict[str, Answer]]:
    """Add the reference answers' log-likelihood to answers of the suites whose scorers need it.

    Args:
        outputs: the arm's answers.
        suites: all suites.
        asked: the arm.
        tokenizer: the base's.
        max_tokens: the base's trained context; longer rows are cut from the left.
    """
    added = {suite: dict(answers) for suite, answers in outputs.items()}
    for suite in suites:
        if not suite.needs_logprobs:
            continue
        rows = _token_rows(suite, outputs.get(suite.name, {}), tokenizer, max_tokens)
        for token_row, nll in zip(rows, _answer_nll(asked.engine, rows, asked.model), strict=True):
            start, end = token_row.spans[-1]
            answer = added[suite.name][token_row.row]
            added[suite.name][token_row.row] = replace(answer, nll=nll, num_reference_tokens=end - start)
    return added


def encode_outputs(outputs: Outputs) -> bytes:
    """Write answers as canonical JSON."""
    return canonical_json(
        {
            suite: {row: asdict(answer) for row, answer in answers.items()}
            for suite, answers in outputs.items()
        }
    )


def decode_outputs(data: bytes) -> dict[str, dict[str, Answer]]:
    """Read what `encode_outputs` wrote. Raises BlobCorrupt."""
    try:
        return _OUTPUTS.validate_json(data)
    except ValidationError as error:
        raise BlobCorrupt(
            f"stored answers do not parse ({error.error_count()} problems); expected suite, row and answer"
        ) from None  # the validation error quotes held-out text


def _interleave(asked: Sequence[Asked]) -> list[tuple[Asked, str, str, Chat]]:
    """Row by row, every arm in turn."""
    queues = [
        [(one, suite, row, chat) for suite, chats in one.chats.items() for row, chat in chats.items()]
        for one in asked
    ]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[index] for index in range(longest) for queue in queues if index < len(queue)]


def _token_rows(
    suite: Suite, answers: Mapping[str, Answer], tokenizer: ChatTokenizer, max_tokens: int
) -> list[TokenRow]:
    """Encode rows with their reference answer; a row that has none to weigh stays without likelihood."""
    rows: list[TokenRow] = []
    for row in answers:
        try:
            whole = supervise(tokenizer, row, suite.examples[row].messages)
            rows.append(truncate(whole, max_tokens, keep_first=tokenizer.bos_id))
        except TokenError:
            continue
    return rows


def _answer_nll(engine: Engine, rows: Sequence[TokenRow], model: str) -> list[float]:
    nll: list[float] = []
    for start in range(0, len(rows), LOGPROB_BATCH_ROWS):
        batch = rows[start : start + LOGPROB_BATCH_ROWS]
        logprobs = engine.logprobs([row.ids for row in batch], model)
        for row, values in zip(batch, logprobs, strict=True):
            first, last = row.spans[-1]
            nll.append(-sum(values[first:last]))
    return nll
