"""Contamination recomputed from what was really trained."""

import json
from importlib import resources

import pytest

from tunewright.core.text import content_id, prompt_text, signature, text_digest
from tunewright.core.tokens import ChatTokenizer, TokenRow, token_row
from tunewright.curate.decontaminate import PlacedRow, nearest_scores
from tunewright.evals.contamination import RowText, TrainedTexts, find_contamination, trained_texts
from tunewright.records import Example, Message, Source
from tunewright.values import Digest

HELD_OUT = [
    RowText("h0", "can i get a large latte with oat milk and two extra shots"),
    RowText("h1", "where is the parcel i ordered three weeks ago from your shop"),
    RowText("h2", "please cancel my subscription at the end of this month"),
]
TRAINED = [RowText("t0", "one mocha with soy milk to go"), RowText("t1", "what are your hours on sunday")]


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    base = resources.files("tunewright.demo") / "base"
    read = [
        (base / name).read_text()
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    ]
    return ChatTokenizer(read[0], json.loads(read[1]), read[2])


def an_example(prompt: str, answer: str = "ok") -> Example:
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    source = Source(digest="0" * 64, path="rows.jsonl", line=1)
    return Example(id=content_id(messages), messages=messages, source=source)


def find(trained: list[RowText], *, neighbours=None, threshold=0.6, held_out=HELD_OUT):
    stored = {row.row: 0.3 for row in held_out} if neighbours is None else neighbours
    texts = TrainedTexts(tuple(trained), ())
    return find_contamination(held_out, texts, neighbours=stored, lexical_threshold=threshold)


def test_unrelated_training_leaves_every_row_clean():
    found = find(TRAINED)
    assert (found.num_rows, found.exact_rows, found.dirty_rows, dict(found.evidence)) == (3, (), (), {})


def test_a_prompt_trained_on_word_for_word_is_exact_whatever_its_white_space():
    found = find([*TRAINED, RowText("t2", "  " + HELD_OUT[1].text.replace(" ", "  "))])
    assert found.exact_rows == found.dirty_rows == ("h1",)
    assert found.evidence["h1"] == {"trained": "t2", "detector": "exact", "score": 1.0}


def test_a_near_duplicate_is_dirty_but_not_exact_even_if_its_likeness_was_stored():
    near = HELD_OUT[0].text + " please"
    found = find([*TRAINED, RowText("t2", near)], neighbours={"h0": 1.0, "h1": 1.0, "h2": 1.0})
    assert (found.exact_rows, found.dirty_rows) == ((), ("h0",))
    assert found.evidence["h0"]["detector"] == "near_duplicate"
    assert found.evidence["h0"]["score"] == pytest.approx(11 / 12)


def restated(text: str) -> RowText:
    return RowText("t2", " ".join(reversed(text.split())))


def test_a_restated_row_is_dirty_when_nothing_was_that_close_at_curation():
    found = find([*TRAINED, restated(HELD_OUT[0].text)])
    assert (found.exact_rows, found.dirty_rows) == ((), ("h0",))
    assert found.evidence["h0"]["detector"] == "lexical"


def test_a_likeness_that_was_there_at_curation_is_no_contamination():
    assert (
        find([*TRAINED, restated(HELD_OUT[0].text)], neighbours={"h0": 1.0, "h1": 0.0, "h2": 0.0}).dirty_rows
        == ()
    )


def test_a_likeness_below_the_threshold_is_no_contamination():
    assert find([*TRAINED, restated(HELD_OUT[0].text)], threshold=1.0).dirty_rows == ()


def test_a_row_without_stored_score_counts_as_unlike_everything():
    assert find([*TRAINED, restated(HELD_OUT[0].text)], neighbours={}).dirty_rows == ("h0",)


def test_leaving_trained_rows_out_makes_nothing_dirty():
    trained = [
        RowText(f"t{number}", f"one mocha number {number} with milk and two shots") for number in range(30)
    ]
    stored = stored_scores(trained)
    assert find(trained, neighbours=stored, threshold=0.0).dirty_rows == ()
    assert find(trained[:7], neighbours=stored, threshold=0.0).dirty_rows == ()


def stored_scores(trained: list[RowText]) -> dict[str, float]:
    def placed(row: RowText) -> PlacedRow:
        return PlacedRow(
            Digest(row.row), row.text, text_digest(row.text), signature(row.text), Digest(row.row)
        )

    return {
        str(k): v
        for k, v in nearest_scores([placed(r) for r in trained], [placed(r) for r in HELD_OUT]).items()
    }


def test_nothing_trained_is_nothing_dirty():
    assert find([]).dirty_rows == ()


def test_rendered_tokens_become_the_prompt_of_their_example(tokenizer: ChatTokenizer):
    example = an_example("One latte,  please")
    row = token_row(tokenizer, example.id, example.messages, max_tokens=128)
    texts = trained_texts([row], {example.id: example}, tokenizer)
    assert texts == TrainedTexts((RowText(example.id, prompt_text(example.messages)),), ())


def test_a_row_cut_to_length_still_belongs_to_its_example(tokenizer: ChatTokenizer):
    example = an_example("one latte please " * 40)
    row = token_row(tokenizer, example.id, example.messages, max_tokens=32)
    assert len(row.ids) == 32
    assert trained_texts([row], {example.id: example}, tokenizer).chain_breaks == ()


def test_tokens_of_another_text_break_the_chain_and_are_compared_as_they_are(tokenizer: ChatTokenizer):
    example, other = an_example("one latte"), an_example(HELD_OUT[2].text)
    swapped = TokenRow(example.id, token_row(tokenizer, "x", other.messages, max_tokens=128).ids, ((0, 1),))
    texts = trained_texts([swapped], {example.id: example}, tokenizer)
    assert HELD_OUT[2].text in texts.rows[0].text
    assert texts.chain_breaks == (
        f"1 trained rows are not what their rows in the dataset render to; the first is {example.id[:12]}",
    )
    found = find_contamination(HELD_OUT, texts, neighbours={}, lexical_threshold=0.6)
    assert found.dirty_rows == ("h2",)
    assert found.chain_breaks == texts.chain_breaks


def test_trained_rows_that_the_dataset_does_not_know_break_the_chain_in_one_sentence(
    tokenizer: ChatTokenizer,
):
    rows = [TokenRow(f"{number:064x}", (5, 6, 7), ((1, 2),)) for number in range(40)]
    breaks = trained_texts(rows, {}, tokenizer).chain_breaks
    assert len(breaks) == 1
    assert breaks[0].startswith("40 trained rows are in neither train nor validation of the dataset")


def test_no_tokens_are_no_rendering(tokenizer: ChatTokenizer):
    example = an_example("one latte")
    assert trained_texts([TokenRow(example.id, (), ())], {example.id: example}, tokenizer).chain_breaks != ()
