"""The loss equals the plain one, and so do its gradients."""

import pytest
import torch
from tests.train_world import small_llama, token_rows
from torch.nn.functional import cross_entropy, linear

from tunewright.train import attention, objectives
from tunewright.train.objectives import chunked_cross_entropy, sft_loss
from tunewright.train.packed import micro_batch

CPU = torch.device("cpu")


@pytest.mark.parametrize("chunk_logits", [1, 70, 1 << 22])
def test_chunked_loss_and_gradients_equal_the_plain_ones(monkeypatch, chunk_logits: int):
    monkeypatch.setattr(objectives, "CHUNK_LOGITS", chunk_logits)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 6, generator=generator, requires_grad=True)
    weight = torch.randn(23, 6, generator=generator, requires_grad=True)
    labels = torch.randint(0, 23, (11,), generator=generator)
    (chunked_cross_entropy(hidden, weight, labels) / 7).backward()
    ours = (hidden.grad.clone(), weight.grad.clone())
    hidden.grad = weight.grad = None
    (cross_entropy(linear(hidden, weight), labels, reduction="sum") / 7).backward()
    torch.testing.assert_close(ours[0], hidden.grad)
    torch.testing.assert_close(ours[1], weight.grad)


def test_frozen_head_gets_no_gradient():
    hidden = torch.randn(5, 6, requires_grad=True)
    weight = torch.randn(23, 6)
    chunked_cross_entropy(hidden, weight, torch.zeros(5, dtype=torch.long)).backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_loss_of_packed_rows_equals_the_models_own_loss_row_by_row():
    attention.register()
    model = small_llama()
    rows = token_rows(5)
    expected = 0.0
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row.ids])).logits[0]
            (start, end), ids = row.spans[0], torch.tensor(row.ids)
            expected += cross_entropy(logits[start - 1 : end - 1], ids[start:end], reduction="sum").item()
        model.set_attn_implementation(attention.NAME)
        ours = sft_loss(model, micro_batch(rows, CPU)).item()
    assert ours == pytest.approx(expected, rel=1e-5)


def test_tied_weights_collect_gradients_of_head_and_embedding():
    attention.register()
    model = small_llama(tie=True)
    model.set_attn_implementation(attention.NAME)
    row = token_rows(1)[0]
    sft_loss(model, micro_batch([row], CPU)).backward()
    ours = model.get_input_embeddings().weight.grad.clone()
    model.zero_grad()
    logits = model(input_ids=torch.tensor([row.ids])).logits[0]
    (start, end), ids = row.spans[0], torch.tensor(row.ids)
    cross_entropy(logits[start - 1 : end - 1], ids[start:end], reduction="sum").backward()
    torch.testing.assert_close(ours, model.get_input_embeddings().weight.grad, rtol=1e-4, atol=1e-5)
