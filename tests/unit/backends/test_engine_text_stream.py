"""Text of an answer, token by token."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tunewright.backends.engine.text_stream import TextStream, longest_beginning


def decode_bytes(ids: Sequence[int]) -> str:
    """One token is one byte, as in the worst case of a byte-level tokeniser."""
    return bytes(ids).decode("utf-8", errors="replace")


def streamed(text: bytes, stops: Sequence[str] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(decode_bytes, stops)
    return [*(stream.push(byte) for byte in text), stream.finish()], stream


@given(st.text(max_size=40))
def test_parts_join_to_the_whole_text(text: str):
    parts, _ = streamed(text.encode())
    assert "".join(parts) == text


@given(
    st.text(alphabet="abc€", max_size=30),
    st.lists(st.text(alphabet="abc€", min_size=1, max_size=4), max_size=3),
)
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str]):
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    parts, stream = streamed(text.encode(), stops)
    whole = "".join(parts)
    assert stream.is_stopped == bool(found)
    if not found:
        assert whole == text
    else:
        assert text.startswith(whole)
        assert not any(stop in whole for stop in stops)


def test_half_a_character_is_never_shown():
    parts, _ = streamed("€".encode())
    assert parts == ["", "", "€", ""]


def test_bytes_that_are_no_character_are_shown_broken_rather_than_held_for_ever():
    parts, _ = streamed(b"\xff" * 12)
    assert "".join(parts[:12]) != ""


def test_what_may_begin_a_stop_string_is_held_back_until_it_is_certain():
    parts, _ = streamed(b"a<|b", ["<|x|>"])
    assert parts == ["a", "", "", "<|b", ""]


def test_nothing_is_shown_after_a_stop_string():
    parts, stream = streamed(b"yes. no", ["."])
    assert "".join(parts) == "yes"
    assert stream.is_stopped


def test_deferred_tokens_give_their_text_at_the_end():
    stream = TextStream(decode_bytes)
    for byte in "a€b".encode():
        stream.defer(byte)
    assert stream.finish() == "a€b"


def test_longest_beginning_counts_the_overlap():
    assert longest_beginning("abcEN", ["END"]) == 2
    assert longest_beginning("abc", ["END"]) == 0
    assert longest_beginning("END", ["END"]) == 0
