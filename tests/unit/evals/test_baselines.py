"""The few-shot prompt and the nearest train row."""

from collections.abc import Sequence

import pytest

from tunewright.core.scorers import Answer
from tunewright.evals.baselines import (
    FewShot,
    Room,
    candidate_prompts,
    choose_prompt,
    fitted_chat,
    nearest_examples,
    trial_rows,
)
from tunewright.evals.items import Chat
from tunewright.records import Example, Message, Source
from tunewright.values import Digest, digest_bytes


def a_row(question: str, answer: str, system: str | None = None) -> Example:
    turns = [Message(role="user", content=question), Message(role="assistant", content=answer)]
    if system is not None:
        turns.insert(0, Message(role="system", content=system))
    source = Source(digest=Digest("0" * 64), path="rows.jsonl", line=1)
    return Example(id=digest_bytes(f"{question}|{answer}".encode()), messages=tuple(turns), source=source)


def count_words(chat: Chat) -> int:
    return sum(len(turn["content"].split()) for turn in chat)


def room(context_tokens: int, answer_tokens: int = 2) -> Room:
    return Room(context_tokens, answer_tokens, count_words)


TRAIN = [a_row(f"question {i}", f"answer {i}") for i in range(20)]
TRIAL = [a_row(f"asked {i}", f"told {i}") for i in range(5)]


def test_prompts_double_up_to_the_recipe_s_most():
    prompts, cap = candidate_prompts(TRAIN, TRIAL, 5, room(1000))
    assert sorted({len(prompt.examples) for prompt in prompts}) == [1, 2, 4, 5]
    assert cap is None
    assert len(prompts) == 8
    assert prompts == candidate_prompts(TRAIN[::-1], TRIAL, 5, room(1000))[0]


def test_examples_of_smaller_prompts_are_kept_in_larger_ones_and_seeds_differ():
    prompts, _ = candidate_prompts(TRAIN, TRIAL, 4, room(1000))
    by_key = {(len(prompt.examples), prompt.seed): prompt.examples for prompt in prompts}
    assert by_key[4, 0][:2] == by_key[2, 0]
    assert by_key[2, 0] != by_key[2, 1]


def test_k_is_capped_by_the_context_and_the_cap_is_said():
    prompts, cap = candidate_prompts(TRAIN, TRIAL, 8, room(context_tokens=16))
    assert cap == 3  # 3 examples of 4 words, a question of 2 and an answer of 2
    assert max(len(prompt.examples) for prompt in prompts) == 3


def test_no_prompt_is_offered_where_no_example_fits():
    assert candidate_prompts(TRAIN, TRIAL, 4, room(context_tokens=5)) == ([], 0)


def test_an_example_that_would_fill_the_context_is_not_used():
    long = a_row("word " * 300, "x")
    prompts, _ = candidate_prompts([long, *TRAIN[:2]], TRIAL, 4, room(1000))
    assert all(long not in prompt.examples for prompt in prompts)


def test_a_prompt_keeps_one_system_turn_and_it_is_the_row_s_own():
    shot = a_row("q", "a", system="of the example")
    chat = FewShot((shot,), 0).chat(a_row("asked", "never shown", system="of the row"))
    assert [(turn["role"], turn["content"]) for turn in chat] == [
        ("system", "of the row"),
        ("user", "q"),
        ("assistant", "a"),
        ("user", "asked"),
    ]


def test_the_reference_answer_of_a_judged_row_is_never_in_its_prompt():
    for prompt in candidate_prompts(TRAIN, TRIAL, 4, room(1000))[0]:
        for row in TRIAL:
            assert all(row.answer not in turn["content"] for turn in prompt.chat(row))


def test_a_long_row_gets_fewer_examples_instead_of_a_cut_prompt():
    prompt = FewShot(tuple(TRAIN[:3]), 0)
    long = a_row("word " * 8, "x")
    chat = fitted_chat(prompt, long, room(context_tokens=15))
    assert len(chat) == 3  # one example and the question
    assert chat[0]["content"] == TRAIN[2].messages[0].content
    assert fitted_chat(prompt, a_row("word " * 40, "x"), room(15))[0]["content"] == ("word " * 40)


def test_the_best_prompt_on_validation_rows_wins_and_a_tie_goes_to_the_shorter():
    prompts, cap = candidate_prompts(TRAIN, TRIAL, 4, room(1000))

    def ask(chats: Sequence[Chat]) -> list[Answer]:
        return [Answer("right" if len(chat) >= 5 else "wrong") for chat in chats]  # two examples and more

    choice = choose_prompt(
        prompts, TRIAL, ask, lambda answers: sum(answer.text == "right" for answer in answers), cap
    )
    assert (len(choice.best.examples), choice.best.seed) == (2, 0)
    assert choice.scores["k=1 seed=0"] == 0
    assert choice.scores["k=4 seed=1"] == 5
    assert choice.num_trial_rows == 5


def test_without_validation_rows_the_largest_prompt_is_taken():
    prompts, cap = candidate_prompts(TRAIN, TRAIN[:1], 4, room(1000))
    choice = choose_prompt(prompts, [], lambda chats: [], lambda answers: 0.0, cap)
    assert len(choice.best.examples) == 4
    assert choice.num_trial_rows == 0


def test_trial_rows_do_not_depend_on_the_order_of_rows():
    assert trial_rows(TRAIN, 6) == trial_rows(TRAIN[::-1], 6)


def test_the_nearest_row_answers_and_nothing_shared_gives_no_answer():
    train = [a_row("two oat milk lattes please", "latte"), a_row("one black tea", "tea")]
    asked = {"a": a_row("one green tea", "?"), "b": a_row("zzz qqq", "?")}
    found = nearest_examples(train, asked)
    assert found["a"].answer.text == "tea"
    assert found["a"].row == train[1].id
    assert 0 < found["a"].similarity < 1
    assert found["a"].answer.finish_reason is None
    assert (found["b"].answer.text, found["b"].row, found["b"].similarity) == ("", None, 0.0)


def test_an_equal_prompt_has_similarity_one():
    train = [a_row("two oat milk lattes please", "latte"), a_row("one black tea", "tea")]
    found = nearest_examples(train, {"a": a_row("One black TEA!", "?")})
    assert found["a"].similarity == pytest.approx(1.0)
