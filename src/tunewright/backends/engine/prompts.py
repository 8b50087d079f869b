"""From what was asked to token ids that fit the base, by the one token plane. Pure."""

from tunewright.core.openai_wire import Prompt, TextRequest
from tunewright.core.tokens import ChatTokenizer
from tunewright.errors import RequestRefused


def prompts_of(request: TextRequest, tokenizer: ChatTokenizer, context_tokens: int) -> list[tuple[int, ...]]:
    """Encode every prompt of a request.

    Args:
        request: what was asked.
        tokenizer: of the base.
        context_tokens: prompt and answer together.

    Raises:
        RequestRefused: a prompt is empty or leaves no room for an answer.
        TemplateMismatch: the chat template refuses the turns.
    """
    prompts = [encode(prompt, tokenizer, add_generation_prompt=True) for prompt in request.prompts]
    longest = context_tokens if request.is_scoring else context_tokens - 1
    param = "messages" if request.is_chat else "prompt"
    for prompt in prompts:
        if not prompt:
            raise RequestRefused("a prompt has no token; expected at least one", param=param)
        if len(prompt) > longest:
            raise RequestRefused(
                f"the prompt has {len(prompt)} tokens; this base holds {context_tokens} with the answer, so "
                f"expected at most {longest}. Shorten the prompt.",
                code="context_length_exceeded",
                param=param,
            )
    return prompts


def encode(prompt: Prompt, tokenizer: ChatTokenizer, *, add_generation_prompt: bool) -> tuple[int, ...]:
    """Encode one prompt: text as it stands, ids checked, turns by the chat template.

    Raises:
        RequestRefused: an id is beyond the vocabulary.
        TemplateMismatch: the chat template refuses the turns.
    """
    if isinstance(prompt, str):
        return tuple(tokenizer.encode_text(prompt))
    ids = tuple(item for item in prompt if isinstance(item, int))
    if ids:
        if max(ids) >= tokenizer.vocabulary_size:
            raise RequestRefused(
                f"token id {max(ids)} is beyond the vocabulary; expected below {tokenizer.vocabulary_size}",
                param="prompt",
            )
        return ids
    turns = [turn for turn in prompt if isinstance(turn, dict)]
    return tuple(tokenizer.encode(turns, add_generation_prompt=add_generation_prompt))


def spell(token: int, tokenizer: ChatTokenizer) -> str:
    """Write one token for people: its text, or its name if it is a special one."""
    return tokenizer.decode([token]) or tokenizer.tokens([token])[0]
