import dataclasses

import pytest
from tests.registry_world import row

from tunewright.records import Probe
from tunewright.registry.probes import Answer, difference, repeats, tells_from_base
from tunewright.registry.record_probes import choose_prompts

PROBE = Probe(
    prompt_ids=(1, 2),
    token_ids=(5, 6, 7),
    logprobs=(-0.1, -0.2, -0.3),
    base_token_ids=(5, 6, 7),
    base_logprobs=(-0.1, -0.2, -0.3),
)
ANSWER = Answer(PROBE.token_ids, PROBE.logprobs)


def test_the_same_answer_does_not_differ():
    assert difference(ANSWER, ANSWER) is None
    assert difference(ANSWER, dataclasses.replace(ANSWER, logprobs=(-0.109, -0.2, -0.3))) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"token_ids": (5, 9, 7)}, "token 1 is 6, not 9"),
        ({"token_ids": (5, 6), "logprobs": (-0.1, -0.2)}, "3 tokens, not 2"),
        ({"logprobs": (-0.1, -0.2, -0.311)}, "differ by 0.0110 > 0.01"),
        ({"logprobs": (-0.1, float("nan"), -0.3)}, "differ by"),
        ({"token_ids": (), "logprobs": ()}, "3 tokens, not 0"),
    ],
)
def test_every_kind_of_difference_is_named(change, reason):
    assert reason in str(difference(ANSWER, dataclasses.replace(ANSWER, **change)))


def test_one_prompt_that_differs_tells_a_model_from_its_base():
    other = PROBE.model_copy(update={"base_token_ids": (5, 6, 8)})
    finding = tells_from_base([PROBE, other])
    assert finding.holds
    assert finding.reasons == ("probe 2 differs from the base: token 2 is 7, not 8",)


def test_log_probabilities_alone_can_tell_a_model_from_its_base():
    other = PROBE.model_copy(update={"base_logprobs": (-0.1, -0.2, -0.9)})
    assert tells_from_base([other]).holds


@pytest.mark.parametrize("probes", [[], [PROBE], [PROBE] * 4])
def test_no_difference_at_all_does_not(probes):
    assert not tells_from_base(probes).holds


def test_a_replay_must_repeat_every_probe():
    assert repeats([PROBE, PROBE], [ANSWER, ANSWER]).holds
    wrong = dataclasses.replace(ANSWER, token_ids=(5, 6, 8))
    finding = repeats([PROBE, PROBE], [ANSWER, wrong])
    assert (finding.holds, finding.reasons) == (False, ("probe 2: token 2 is 8, not 7",))
    assert repeats([PROBE], []).reasons == ("0 answers for 1 probes",)


def test_prompts_are_different_and_the_longest_are_left_out():
    rows = [row(n) for n in range(1, 9)]
    long = row(9).messages[0].model_copy(update={"content": "x" * 5000})
    rows.append(row(9).model_copy(update={"messages": (long, row(9).messages[1])}))
    rows += rows[:3]
    chosen = [chat[0]["content"] for chat in choose_prompts(rows)]
    assert len(set(chosen)) == 4
    assert "x" * 5000 not in chosen
    assert choose_prompts(rows[::-1]) == choose_prompts(rows), "whatever the order of rows"


def test_few_rows_give_few_prompts():
    assert len(choose_prompts([row(1), row(2)])) == 2
    assert choose_prompts([]) == []
