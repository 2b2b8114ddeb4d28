"""The plain net is its equations, and every part of it takes part."""

import json

import numpy as np
import pytest
import torch
from foundation_cases import SHAPE, as_token_batch, foundation, one_user, pair_batch, true_pairs

from predawn.server.models.foundation import (
    EPS,
    Block,
    TokenBatch,
    foundation_net,
    foundation_tensors,
    layer_norm,
    untrained_foundation,
)
from predawn.server.models.foundation_tokens import histories, history_tokens


def test_a_block_is_its_equations() -> None:
    """Against a loop over rows and heads that follows the docstring line by line."""
    block = Block(8, 2, torch.Generator().manual_seed(3)).double()
    block.gate_b.data += 0.3
    block.uqkv_b.data += 0.1
    x, y = torch.randn(1, 5, 8).double(), torch.randn(1, 3, 8).double()
    counts = [0, 2, 5]
    seen = (torch.arange(5) < torch.tensor(counts)[:, None]).double()[None]
    got_x, got_y = block(x, y, seen, 1 / 16)

    def project(row: torch.Tensor) -> list[torch.Tensor]:
        normed = torch.nn.functional.layer_norm(row, (8,), block.norm_w, block.norm_b, EPS)
        parts = torch.nn.functional.silu(block.uqkv_w @ normed + block.uqkv_b)
        return [part.view(2, 4) for part in parts.view(4, 8)]

    def expected(row: torch.Tensor, sees: list[torch.Tensor]) -> torch.Tensor:
        u, q, k, v = project(row)
        del k, v
        attended = torch.zeros(2, 4).double()
        for other in sees:
            _, _, key, value = project(other)
            for head in range(2):
                weight = torch.nn.functional.silu(q[head] @ key[head] * 4**-0.5)
                attended[head] += weight * value[head] / 16
        normed = torch.nn.functional.layer_norm(
            attended.flatten(), (8,), block.gate_w, block.gate_b, EPS
        )
        return row + block.out_w @ (normed * u.flatten()) + block.out_b

    for i in range(5):
        row = expected(x[0, i], list(x[0, : i + 1]))
        torch.testing.assert_close(got_x[0, i], row, rtol=1e-10, atol=1e-10)
    for c, count in enumerate(counts):
        row = expected(y[0, c], [*x[0, :count], y[0, c]])
        torch.testing.assert_close(got_y[0, c], row, rtol=1e-10, atol=1e-10)


def test_every_parameter_takes_part() -> None:
    net = foundation()
    [events] = histories(one_user(20), SHAPE.length)
    tokens = as_token_batch(history_tokens(SHAPE, events, 0, 20))
    history = tokens._replace(features=tokens.features.float())
    out = net(history, history, torch.arange(20)[None])
    loss = out.logits.square().sum() + out.compressed_logits.square().sum() + out.lost.sum()
    torch.autograd.backward(loss)
    learned = {n: p for n, p in net.named_parameters() if p.requires_grad}
    assert len(learned) == len(list(net.parameters())) - 1  # all but the items' statistics
    for name, parameter in learned.items():
        gradient = parameter.grad
        assert gradient is not None and gradient.to_dense().abs().sum() > 0, name


def test_the_auto_encoder_does_not_pull_at_what_it_copies() -> None:
    net = foundation()
    [events] = histories(one_user(20), SHAPE.length)
    tokens = as_token_batch(history_tokens(SHAPE, events, 0, 20))
    history = tokens._replace(features=tokens.features.float())
    out = net(history, history, torch.arange(20)[None])
    normed = layer_norm(torch.randn(4, SHAPE.width))
    encoded = torch.tanh(normed @ net.encode_w + net.encode_b)
    assert encoded.shape == (4, SHAPE.dim)
    torch.autograd.backward(out.lost.sum())
    assert net.decode_w.grad is not None and net.decode_w.grad.abs().sum() > 0
    assert net.tasks_w.grad is None


def test_padding_behind_what_a_candidate_sees_does_not_matter() -> None:
    net = foundation().double()
    [events] = histories(one_user(20), SHAPE.length)
    tokens = as_token_batch(history_tokens(SHAPE, events, 0, 20))
    short = TokenBatch(*(part[:, :12] for part in tokens[:3]))
    seen = torch.full((1, 20), 12)
    one, two = net(short, tokens, seen), net(tokens, tokens, seen)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_tasks_read_the_last_layer_and_the_pair_an_earlier_one() -> None:
    net = foundation()
    batch = pair_batch([2, 5, 3], history=20)
    before = true_pairs(net, batch)
    last = net.blocks[-1]
    assert isinstance(last, Block)
    last.out_w.data *= 2
    after = true_pairs(net, batch)
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one.embedding, two.embedding)
        assert not torch.allclose(one.logits, two.logits)


def test_a_snapshot_gives_the_same_net_back() -> None:
    net = foundation(seed=5)
    described = json.loads(json.dumps(SHAPE.describe()))
    tensors = {name: np.array(array) for name, array in foundation_tensors(net).items()}
    again = foundation_net(described, tensors)
    batch = pair_batch([2, 5], history=20)
    for one, two in zip(true_pairs(net, batch), true_pairs(again, batch), strict=True):
        assert torch.equal(one.logits, two.logits)
    with pytest.raises(RuntimeError, match="size mismatch"):
        foundation_net(described | {"dim": 32}, tensors)
    with pytest.raises(TypeError):
        foundation_net(described | {"wings": 2}, tensors)


def test_untrained_nets_are_reproducible_by_seed() -> None:
    one, two, other = (untrained_foundation(SHAPE, seed) for seed in (1, 1, 2))
    assert torch.equal(one.encode_w, two.encode_w)
    assert not torch.equal(one.encode_w, other.encode_w)
