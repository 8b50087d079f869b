"""The token plane: the same ids as transformers, and labels exactly on the answers."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tunewright.demo
from tunewright.core.chat_template import compile_chat_template, special_tokens_of
from tunewright.core.tokens import (
    ChatTokenizer,
    TokenRow,
    dump_token_rows,
    load_token_rows,
    supervise,
    token_row,
    truncate,
)
from tunewright.errors import (
    BaseIncomplete,
    BlobCorrupt,
    EosNotSupervised,
    NothingSupervised,
    TemplateMismatch,
)
from tunewright.records import Message

BASE = Path(tunewright.demo.__file__).parent / "base"
TEMPLATE = (BASE / "chat_template.jinja").read_text(encoding="utf-8")
TOKENIZER_JSON = (BASE / "tokenizer.json").read_text(encoding="utf-8")
CONFIG = json.loads((BASE / "tokenizer_config.json").read_text(encoding="utf-8"))
TINY = ChatTokenizer(TOKENIZER_JSON, CONFIG, TEMPLATE)

CHAT = [
    {"role": "system", "content": "Answer in JSON."},
    {"role": "user", "content": "Two lattes, please – naïve café 12.50 €\n\tthanks 🙂"},
    {"role": "assistant", "content": '{"item": "latte", "count": 2}'},
    {"role": "user", "content": "  and <|end|> a tea "},
    {"role": "assistant", "content": '{"item": "tea"}'},
]


def with_template(template: str) -> ChatTokenizer:
    return ChatTokenizer(TOKENIZER_JSON, CONFIG, template)


def test_ids_equal_those_of_transformers_apply_chat_template():
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoTokenizer.from_pretrained(BASE)
    for chat, prompt in [(CHAT, False), (CHAT[:-1], True), (CHAT[1:3], False), ([CHAT[0]], True)]:
        theirs = peer.apply_chat_template(chat, add_generation_prompt=prompt, return_dict=False)
        assert TINY.encode(chat, add_generation_prompt=prompt) == theirs
        text = peer.apply_chat_template(chat, add_generation_prompt=prompt, tokenize=False)
        assert TINY.render(chat, add_generation_prompt=prompt) == text
    assert (TINY.eos_id, TINY.bos_id, TINY.pad_id) == (
        peer.eos_token_id,
        peer.bos_token_id,
        peer.pad_token_id,
    )


def test_records_and_mappings_give_the_same_ids():
    records = [Message.model_validate(turn) for turn in CHAT]
    assert TINY.encode(records, add_generation_prompt=False) == TINY.encode(CHAT, add_generation_prompt=False)


def test_labels_cover_each_answer_and_its_end_and_nothing_else():
    row = supervise(TINY, "r", CHAT)
    answers = [TINY.decode(row.ids[start:end]) for start, end in row.spans]
    assert answers == [CHAT[2]["content"], CHAT[4]["content"]]
    for start, end in row.spans:
        assert row.ids[end - 1] == TINY.eos_id
        assert TINY.tokens(row.ids[start - 1 : start]) == ["<|assistant|>"]
    assert row.num_supervised == sum(end - start for start, end in row.spans)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=6))
def test_prompt_ids_and_answer_ids_join_to_the_whole_whatever_the_text(texts: list[str]):
    chat = [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(texts)]
    chat = chat if len(chat) % 2 == 0 else chat[:-1]
    row = supervise(TINY, "r", chat)
    start, end = row.spans[-1]
    assert list(row.ids[:start]) == TINY.encode(chat[:-1], add_generation_prompt=True)
    assert end == len(row.ids)


def test_text_that_looks_like_the_end_token_does_not_end_the_answer_early():
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "one <|end|> two"}]
    row = supervise(TINY, "r", chat)
    assert row.spans[0][1] == len(row.ids)


def test_line_break_after_the_end_token_carries_no_label():
    tokenizer = with_template(
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|' + m['role'] + '|>' + m['content'] + eos_token + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    row = supervise(tokenizer, "r", CHAT[1:3])
    assert row.ids[row.spans[0][1] - 1] == tokenizer.eos_id
    assert row.spans[0][1] == len(row.ids) - 1


def test_template_that_rewrites_earlier_turns_is_refused():
    tokenizer = with_template(
        "{{ bos_token }}{{ messages | length }}{% for m in messages %}"
        "{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    with pytest.raises(TemplateMismatch, match="extends its own prefix"):
        supervise(tokenizer, "r", CHAT[1:3])


def test_prompt_whose_last_token_merges_with_the_answer_is_refused():
    tokenizer = with_template(
        "{% for m in messages %}{{ m['role'] + ' says ' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant says' }}{% endif %}"
    )
    merged = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "o"}]
    supervise(tokenizer, "r", merged)
    glued = with_template(
        "{% for m in messages %}{{ m['role'] + ' say' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant say' }}{% endif %}"
    )
    with pytest.raises(TemplateMismatch, match="the prompt"):
        supervise(glued, "r", [merged[0], {"role": "assistant", "content": "ing hello"}])


def test_double_beginning_is_refused():
    with pytest.raises(TemplateMismatch, match="twice"):
        supervise(with_template("{{ bos_token }}" + TEMPLATE), "r", CHAT)


def test_template_without_an_end_token_is_refused():
    tokenizer = with_template(TEMPLATE.replace(" + eos_token", ""))
    with pytest.raises(EosNotSupervised, match="never learns to stop"):
        supervise(tokenizer, "r", CHAT[1:3])


def test_further_end_tokens_of_the_model_count_as_ends():
    tokenizer = ChatTokenizer(
        TOKENIZER_JSON, CONFIG, TEMPLATE.replace("eos_token", "'<|pad|>'"), extra_eos_ids=[0]
    )
    row = supervise(tokenizer, "r", CHAT[1:3])
    assert row.ids[row.spans[0][1] - 1] == 0


def test_row_without_an_assistant_turn_and_row_with_an_empty_answer_are_refused():
    with pytest.raises(NothingSupervised, match="none of its 1 turns"):
        supervise(TINY, "r", CHAT[:1])
    with pytest.raises(NothingSupervised, match="empty"):
        supervise(TINY, "r", [CHAT[1], {"role": "assistant", "content": ""}])


def test_unknown_role_is_refused_with_the_templates_own_words():
    with pytest.raises(TemplateMismatch, match="unknown role tool"):
        TINY.encode([{"role": "tool", "content": "x"}], add_generation_prompt=False)


def test_truncation_takes_from_the_left_of_the_prompt_and_keeps_beginning_and_answer():
    full = supervise(TINY, "r", CHAT[1:3])
    room = full.num_supervised + 6
    cut = token_row(TINY, "r", CHAT[1:3], max_tokens=room)
    assert len(cut.ids) == room
    assert cut.ids[0] == TINY.bos_id
    assert cut.ids[1:] == full.ids[-(room - 1) :]
    (start, end), (was, until) = cut.spans[0], full.spans[0]
    assert cut.ids[start:end] == full.ids[was:until]


def test_an_earlier_answer_that_is_cut_into_loses_its_labels():
    full = supervise(TINY, "r", CHAT)
    cut = truncate(full, len(full.ids) - full.spans[0][0] - 2, keep_first=TINY.bos_id)
    assert len(cut.spans) == 1
    assert TINY.decode(cut.ids[cut.spans[0][0] :]) == CHAT[4]["content"]


def test_answer_longer_than_the_limit_is_refused_with_its_length():
    full = supervise(TINY, "r", CHAT[1:3])
    with pytest.raises(NothingSupervised, match=f"{full.num_supervised} tokens"):
        token_row(TINY, "r", CHAT[1:3], max_tokens=full.num_supervised)


@given(st.integers(2, 40), st.integers(1, 20), st.integers(2, 50))
def test_truncated_rows_fit_and_labels_stay_on_the_same_tokens(prompt: int, answer: int, limit: int):
    ids = (1, *range(100, 100 + prompt + answer))
    row = TokenRow("r", ids, ((1 + prompt, 1 + prompt + answer),))
    if limit < answer + 2:
        if len(ids) > limit:
            with pytest.raises(NothingSupervised):
                truncate(row, limit, keep_first=1)
        return
    cut = truncate(row, limit, keep_first=1)
    start, end = cut.spans[0]
    assert len(cut.ids) <= limit
    assert cut.ids[start:end] == ids[1 + prompt :]


def test_token_rows_survive_writing_and_reading_and_broken_ones_are_refused():
    rows = [supervise(TINY, "a", CHAT), supervise(TINY, "b", CHAT[1:3])]
    data = dump_token_rows(rows)
    assert load_token_rows(data) == rows
    assert dump_token_rows(load_token_rows(data)) == data
    with pytest.raises(BlobCorrupt, match="does not parse"):
        load_token_rows(data[:-20])


def test_generation_marks_dates_and_json_filters_of_templates_work():
    source = (
        "{% for m in messages %}{% generation %}{{ m | tojson }}{% endgeneration %}{% endfor %}"
        "{{ strftime_now('%d %b %Y') }}"
    )
    render = compile_chat_template(source, {})
    assert (
        render([{"role": "user", "content": "é<"}], False) == '{"role": "user", "content": "é<"}26 Jul 2024'
    )
    assert datetime.strptime("26 Jul 2024", "%d %b %Y").year == 2024  # noqa: DTZ007


def test_broken_template_broken_tokenizer_and_missing_end_token_are_refused_by_name():
    with pytest.raises(BaseIncomplete, match="not a Jinja template"):
        with_template("{% for %}")
    with pytest.raises(BaseIncomplete, match=r"tokenizer\.json"):
        ChatTokenizer("{}", CONFIG, TEMPLATE)
    with pytest.raises(BaseIncomplete, match="end-of-sequence"):
        ChatTokenizer(TOKENIZER_JSON, {**CONFIG, "eos_token": None}, TEMPLATE)


def test_special_tokens_may_be_strings_or_objects():
    config = {"eos_token": {"content": "</s>"}, "bos_token": "<s>", "pad_token": None, "other": "x"}
    assert special_tokens_of(config) == {"eos_token": "</s>", "bos_token": "<s>"}
