"""Memory of the worker: how much was used, and what to do when it runs out."""

import resource
import sys
from collections.abc import Callable

import torch

from tunewright.errors import TrainingError


def peak_memory_bytes() -> int:
    """Read the largest resident memory this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Tell running out of memory from other errors; PyTorch's CPU allocator raises a bare RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


def within_memory(
    attempt: Callable[[int], float], micro_tokens: int, *, longest: int, on_retry: Callable[[], None]
) -> tuple[float, int]:
    """Run a step, with ever smaller micro-batches while memory runs out; the effective batch stays.

    Args:
        attempt: runs the step with micro-batches of so many tokens and returns its loss.
        micro_tokens: where to start.
        longest: tokens of the step's longest row; below it smaller micro-batches save nothing.
        on_retry: clears what a failed attempt has left.

    Returns:
        (loss, the micro_tokens that worked).

    Raises:
        TrainingError: memory runs out even with one row a micro-batch.
    """
    while True:
        random_state = torch.get_rng_state()
        try:
            return attempt(micro_tokens), micro_tokens
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if micro_tokens <= longest:
                raise TrainingError(
                    f"memory ran out with micro-batches of {micro_tokens} tokens, one row of {longest} "
                    "tokens each; expected room for one row. Lower train.max_tokens or lora.rank, or choose "
                    "a smaller base."
                ) from error
        on_retry()
        torch.set_rng_state(random_state)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        micro_tokens //= 2
