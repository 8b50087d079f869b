"""Text from tokens, as they come: whole characters only, and nothing at or past a stop string. Pure."""

from collections.abc import Callable, Sequence

BROKEN = "\ufffd"
"""What decoding half a character gives."""

LONGEST_CHARACTER_TOKENS = 8
"""A tail that still ends in a broken character after so many tokens is not waiting for more bytes."""


class TextStream:
    """Decodes one answer token by token.

    A token's text may depend on the one before it, so each step decodes a window that begins at the last safe
    place, and takes what is new. Text that may turn out to begin a stop string is held back.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._ids: list[int] = []
        self._start = 0
        """First id of the window."""
        self._read = 0
        """Ids before this one have given their text."""
        self._held = ""
        self.has_stops = bool(self._stops)
        self.is_stopped = False
        """A stop string was met; all later text is dropped."""

    def push(self, token: int) -> str:
        """Take one token; return the text that is now certain."""
        self._ids.append(token)
        return self._release(self._fresh(is_last=False), is_last=False)

    def defer(self, token: int) -> None:
        """Take one token whose text nobody needs before the end."""
        self._ids.append(token)

    def finish(self) -> str:
        """Return what was held back, at the end of the answer."""
        return self._release(self._fresh(is_last=True), is_last=True)

    def _fresh(self, *, is_last: bool) -> str:
        before = self._decode(self._ids[self._start : self._read])
        window = self._decode(self._ids[self._start :])
        waiting = len(self._ids) - self._read
        if window.endswith(BROKEN) and not is_last and waiting < LONGEST_CHARACTER_TOKENS:
            return ""
        self._start, self._read = self._read, len(self._ids)
        return window[len(before) :]

    def _release(self, fresh: str, *, is_last: bool) -> str:
        if self.is_stopped:
            return ""
        text = self._held + fresh
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.is_stopped, self._held = True, ""
            return text[: min(found)]
        keep = 0 if is_last else longest_beginning(text, self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def longest_beginning(text: str, stops: Sequence[str]) -> int:
    """Count the characters at the end of `text` that may be the beginning of a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0
