"""Documents of one sequence never see each other."""

import pytest
import torch
from tests.train_world import small_llama, token_rows
from torch.nn.functional import scaled_dot_product_attention

from tunewright.train import attention
from tunewright.train.attention import document_attention
from tunewright.train.packed import micro_batch, micro_batches

CPU = torch.device("cpu")
LAYER = torch.nn.Identity()


def random_heads(num_tokens: int, heads: int = 4, keys: int = 2):
    generator = torch.Generator().manual_seed(1)
    sizes = ((1, heads, num_tokens, 8), (1, keys, num_tokens, 8), (1, keys, num_tokens, 8))
    return [torch.randn(size, generator=generator) for size in sizes]


def test_each_document_equals_the_same_document_alone():
    query, key, value = random_heads(12)
    packed, _ = document_attention(LAYER, query, key, value, None, document_lengths=(3, 5, 4))
    at = 0
    for length in (3, 5, 4):
        part = slice(at, at + length)
        alone, _ = document_attention(LAYER, query[:, :, part], key[:, :, part], value[:, :, part], None)
        assert torch.equal(packed[:, part], alone)
        at += length


def test_one_document_equals_plain_causal_attention_with_grouped_keys():
    query, key, value = random_heads(9)
    ours, _ = document_attention(LAYER, query, key, value, None)
    plain = scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), is_causal=True
    )
    torch.testing.assert_close(ours, plain.transpose(1, 2))


def test_sliding_window_looks_back_no_further():
    query, key, value = random_heads(10)
    before, _ = document_attention(LAYER, query, key, value, None, sliding_window=3)
    value[:, :, 0] += 100.0
    after, _ = document_attention(LAYER, query, key, value, None, sliding_window=3)
    assert torch.equal(before[:, 3:], after[:, 3:])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_lengths_that_do_not_cover_the_sequence_are_refused():
    query, key, value = random_heads(6)
    with pytest.raises(RuntimeError, match="split"):
        document_attention(LAYER, query, key, value, None, document_lengths=(3, 2))


def test_hidden_states_of_a_whole_model_do_not_leak_across_documents():
    attention.register()
    model = small_llama()
    model.set_attn_implementation(attention.NAME)
    rows = token_rows(3)
    with torch.no_grad():
        packed = _hidden(model, micro_batch(rows, CPU))
        alone = torch.cat([_hidden(model, micro_batch([row], CPU)) for row in rows], dim=1)
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


def _hidden(model, batch):
    return model.get_decoder()(
        input_ids=batch.tokens_1T,
        position_ids=batch.positions_1T,
        use_cache=False,
        document_lengths=batch.document_lengths,
    ).last_hidden_state


def test_micro_batch_points_each_label_at_the_token_before_it():
    rows = token_rows(4)
    batch = micro_batch(rows, CPU)
    assert sum(batch.document_lengths) == batch.tokens_1T.shape[1]
    assert batch.num_tokens == sum(len(row.ids) for row in rows)
    at, seen = 0, 0
    for row, length in zip(rows, batch.document_lengths, strict=True):
        assert tuple(batch.tokens_1T[0, at : at + length].tolist()) == row.ids[:length]
        assert batch.positions_1T[0, at : at + length].tolist() == list(range(length))
        (start, end), labels = row.spans[0], row.num_supervised
        assert batch.labels_S[seen : seen + labels].tolist() == list(row.ids[start:end])
        assert (batch.supervised_S[seen : seen + labels] - at).tolist() == list(range(start - 1, end - 1))
        at, seen = at + length, seen + labels
    assert seen == len(batch.labels_S)


def test_micro_batches_hold_every_row_once():
    rows = token_rows(20)
    batches = micro_batches(rows, 40, CPU)
    assert sum(batch.num_tokens for batch in batches) == sum(len(row.ids) for row in rows)
    assert sum(len(batch.document_lengths) for batch in batches) == 20
    assert max(batch.num_tokens for batch in batches) <= 40
