"""T2T-ViT: overlapping patches, the two token blocks and the position code, against loops in float64."""

import math

import torch
from torch import Tensor

from vizlib.models.architectures.t2t_vit import (
    T2TViT,
    TokenPerformer,
    TokenTransformer,
    restructurise,
    sinusoid,
    soft_split,
)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)), dtype=torch.float64)


def test_soft_split_is_overlapping_squares_in_reading_order():
    x = draw(2, 3, 9, 11)
    tokens, grid = soft_split(x, 7, 4, 2)
    assert grid == (2, 3)  # (9 + 4 - 7) // 4 + 1, (11 + 4 - 7) // 4 + 1
    padded = torch.zeros(2, 3, 13, 15, dtype=torch.float64)
    padded[:, :, 2:11, 2:13] = x
    for i in range(2):
        for j in range(3):
            square = padded[:, :, 4 * i : 4 * i + 7, 4 * j : 4 * j + 7]
            torch.testing.assert_close(tokens[:, 3 * i + j], square.reshape(2, -1))


def test_restructurise_puts_tokens_back_in_reading_order():
    tokens = draw(2, 6, 4)
    grid = restructurise(tokens, (2, 3))
    for i in range(2):
        for j in range(3):
            assert torch.equal(grid[:, :, i, j], tokens[:, 3 * i + j])


def randomised(block: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for i, p in enumerate(block.parameters()):
            p.copy_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return block.double()


def test_token_performer_is_the_loops():
    block, x = randomised(TokenPerformer(7, 4, features=5)), draw(2, 6, 7)
    got = block(x)
    for b in range(2):
        kqv = block.kqv(block.norm1(x[b]))
        k, q, v = kqv[:, :4], kqv[:, 4:8], kqv[:, 8:]

        def phi(t: Tensor) -> Tensor:
            return torch.stack([(w @ t - t @ t / 2).exp() / math.sqrt(5) for w in block.w])

        for i in range(6):
            weights = torch.stack([phi(q[i]) @ phi(k[j]) for j in range(6)])
            seen = sum(w * v[j] for j, w in enumerate(weights)) / weights.sum()
            y = v[i] + block.proj(seen)
            torch.testing.assert_close(got[b, i], y + block.mlp(block.norm2(y)), rtol=1e-4, atol=1e-5)


def test_token_transformer_scales_by_the_width_before_the_projection_and_adds_v():
    block, x = randomised(TokenTransformer(9, 4)), draw(2, 6, 9)
    got = block(x)
    for b in range(2):
        qkv = block.attn.qkv(block.norm1(x[b]))
        q, k, v = qkv[:, :4], qkv[:, 4:8], qkv[:, 8:]
        for i in range(6):
            weights = torch.stack([q[i] @ k[j] / math.sqrt(9) for j in range(6)]).softmax(0)
            y = v[i] + block.attn.proj(sum(w * v[j] for j, w in enumerate(weights)))
            torch.testing.assert_close(got[b, i], y + block.mlp(block.norm2(y)))


def test_position_code():
    code = sinusoid(5, 6)[0]
    for position in range(5):
        for j in range(6):
            angle = position / 10000 ** (2 * (j // 2) / 6)
            wanted = math.sin(angle) if j % 2 == 0 else math.cos(angle)
            assert math.isclose(code[position, j], wanted, abs_tol=1e-6)


def test_random_features_are_orthogonal_rows_of_length_root_m_and_not_trained():
    w = TokenPerformer(7, 8, features=6).w
    torch.testing.assert_close(w @ w.T, 6 * torch.eye(6), atol=1e-5, rtol=0)
    assert not w.requires_grad


def test_the_class_token_reads_the_logits_and_positions_matter():
    torch.manual_seed(0)
    model = T2TViT(16, 1, 2, 2.0, "transformer", num_classes=4, image_size=64).eval()
    x = torch.randn(1, 3, 64, 64)
    before = model(x)
    with torch.no_grad():
        tokens = model.tokens_to_token(x).flatten(1, 2)
        whole = torch.cat([model.cls_token, tokens], 1) + sinusoid(17, 16)
        torch.testing.assert_close(model.head(model.norm(model.blocks(whole))[:, 0]), before)
        model.pos_embed.zero_()
    assert not torch.allclose(model(x), before, atol=1e-5)
