"""Each proof passes on a sound model and fails, by name, on the fault it is for."""

from dataclasses import replace

import pytest
import torch
from tests.train_world import EOS, VOCABULARY, save_llama, token_rows

from tunewright.errors import EosNotSupervised, NothingSupervised, SelfCheckFailed
from tunewright.recipe import LoraSettings, TrainSection
from tunewright.train import selfcheck
from tunewright.train.methods import load_base, make_trainable
from tunewright.train.objectives import sft_loss

CPU = torch.device("cpu")
SETTINGS = TrainSection(lora=LoraSettings(rank=4))
ROWS = token_rows(12)
ENDS = frozenset({EOS})


def test_sound_rows_pass_and_say_how_much_is_labelled():
    checks = selfcheck.check_labels(ROWS, ENDS, VOCABULARY)
    assert [check.name for check in checks] == ["supervised_rows", "eos_is_label", "label_coverage"]
    assert all(check.passed for check in checks)


def test_row_without_labels_without_end_with_foreign_ids_and_labels_everywhere_are_refused():
    with pytest.raises(NothingSupervised, match=ROWS[0].row):
        selfcheck.check_labels([replace(ROWS[0], spans=())], ENDS, VOCABULARY)
    start, end = ROWS[0].spans[0]
    with pytest.raises(EosNotSupervised, match="never learn to stop"):
        selfcheck.check_labels([replace(ROWS[0], spans=((start, end - 1),))], ENDS, VOCABULARY)
    with pytest.raises(SelfCheckFailed, match="ids_in_vocabulary"):
        selfcheck.check_labels(ROWS, ENDS, 20)
    everything = [replace(row, spans=((0, len(row.ids)),)) for row in ROWS]
    with pytest.raises(SelfCheckFailed, match="label_coverage"):
        selfcheck.check_labels(everything, ENDS, VOCABULARY)


def test_sample_holds_the_shortest_and_the_longest_and_never_one_document_only():
    sample = selfcheck.sample_rows(ROWS)
    lengths = [len(row.ids) for row in ROWS]
    assert (len(sample[0].ids), len(sample[-1].ids)) == (min(lengths), max(lengths))
    assert len(selfcheck.sample_rows(ROWS[:1])) == 2


def test_packed_equals_unpacked_on_a_sound_model(tmp_path):
    model = load_base(save_llama(tmp_path), SETTINGS, CPU)
    sample = selfcheck.sample_rows(ROWS)
    reference = selfcheck.reference_loss(model, sample, CPU)
    packed = selfcheck.packed_loss(model, sft_loss, sample, CPU)
    check = selfcheck.check_packing(reference, packed, is_fp32=True)
    assert "tolerance 1e-05" in check.detail


def test_attention_that_leaks_across_documents_is_caught(tmp_path):
    model = load_base(save_llama(tmp_path), SETTINGS, CPU)
    sample = selfcheck.sample_rows(ROWS)
    reference = selfcheck.reference_loss(model, sample, CPU)

    def leaking(model, batch):
        return sft_loss(model, replace(batch, document_lengths=(sum(batch.document_lengths),)))

    packed = selfcheck.packed_loss(model, leaking, sample, CPU)
    with pytest.raises(SelfCheckFailed, match="packed_equals_unpacked"):
        selfcheck.check_packing(reference, packed, is_fp32=True)


def test_accumulated_gradient_equals_the_big_batch_and_leaves_nothing_behind(tmp_path):
    trainable = make_trainable(load_base(save_llama(tmp_path), SETTINGS, CPU), SETTINGS)
    sample = selfcheck.sample_rows(ROWS)
    assert selfcheck.check_accumulation(trainable, sft_loss, sample, CPU, is_fp32=True).passed
    assert all(value.grad is None for value in trainable.parameters.values())


def test_loss_that_is_averaged_per_micro_batch_is_caught(tmp_path):
    trainable = make_trainable(load_base(save_llama(tmp_path), SETTINGS, CPU), SETTINGS)

    def averaged(model, batch):
        return sft_loss(model, batch) / len(batch.labels_S)

    with pytest.raises(SelfCheckFailed, match="accumulated_equals_big_batch"):
        selfcheck.check_accumulation(trainable, averaged, selfcheck.sample_rows(ROWS), CPU, is_fp32=True)


def test_adapter_that_changes_the_base_is_caught():
    assert selfcheck.check_adapter_off(2.5, 2.5).passed
    with pytest.raises(SelfCheckFailed, match="adapter_off_equals_base"):
        selfcheck.check_adapter_off(2.5, 2.51)
