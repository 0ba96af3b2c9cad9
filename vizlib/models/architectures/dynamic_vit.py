"""DynamicViT: a ViT that drops the patches it can do without while it runs, on DeiT-S.

Paper: Rao, Zhao, Liu, Lu, Zhou, Hsieh 2021, "DynamicViT: Efficient Vision Transformers with Dynamic Token
Sparsification", arXiv 2106.02034.

    local, global    z = MLP(x);  local = first half of z;  global = Σᵢ D̂ᵢ zᵢ / Σᵢ D̂ᵢ over the second half
    decision         π = log softmax(MLP([local, global])) over (keep, drop)
    inference        the ⌊ρˢ N⌋ patches with the highest keep score go on, the others are gone (s = 1, 2, 3)
    training         D ~ Gumbel-softmax(π), hard, D̂ ← D̂ ⊙ D; nothing is removed, attention is masked instead:
                     Ãᵢⱼ = exp(Pᵢⱼ) Gᵢⱼ / Σₖ exp(Pᵢₖ) Gᵢₖ with Gᵢⱼ = 1 if i = j else D̂ⱼ
    ratio loss       mean over photos and stages of (ρˢ - mean(D̂))²; the caller's, from what training returns

The class token is never scored and never dropped. Which patches go on is the second output of each
`token_keeper`.

Deviation, from the authors' code: any input size is taken, positions are interpolated.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, resample_abs_pos_embed
from torch import Tensor, nn

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class Predictor(nn.Module):
    """Log probabilities of keeping and of dropping each patch, from itself and from all that are left."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
            nn.LogSoftmax(-1),
        )

    def forward(self, x: Tensor, decision: Tensor) -> Tensor:
        """Patches x (b, n, c), decision (b, n) 1 for those that are left -> (b, n, 2)."""
        local, pooled = self.in_conv(x).chunk(2, -1)  # (b, n, c/2) each
        weight = decision[..., None]  # (b, n, 1)
        pooled = (pooled * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)  # (b, 1, c/2)
        return self.out_conv(torch.cat([local, pooled.expand_as(local)], -1))  # (b, n, c) -> (b, n, 2)


class TokenKeeper(nn.Module):
    """Removes all patches but those with the highest scores."""

    def forward(self, x: Tensor, score: Tensor, patches: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Keep `count` patches, the highest score first.

        Args:
            x: class token and patches (b, 1 + n, c).
            score: (b, n).
            patches: (b, n) which patches of the image, counted row by row, the tokens are.

        Returns:
            Class token and kept patches (b, 1 + count, c); which patches of the image these are (b, count).
        """
        best = score.argsort(dim=1, descending=True, stable=True)[:, :count]  # (b, count)
        kept = x[:, 1:].gather(1, best[..., None].expand(-1, -1, x.shape[-1]))  # (b, count, c)
        return torch.cat([x[:, :1], kept], 1), patches.gather(1, best)


class Attention(nn.Module):
    """Multi-head self-attention; with a decision, dropped keys are masked for everyone but themselves."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, decision: Tensor | None = None) -> Tensor:
        """x (b, n, c), decision (b, n) in {0, 1} or None -> (b, n, c)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (b, n, 3, a, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (b, a, n, d)
        if decision is None:
            seen = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5  # (b, a, n, n)
            seen = masked_softmax(scores, decision) @ v  # (b, a, n, d)
        return self.proj(seen.transpose(1, 2).flatten(2))  # (b, n, a, d) -> (b, n, a·d = c)


def masked_softmax(scores: Tensor, decision: Tensor, eps: float = 1e-6) -> Tensor:
    """Softmax over kept keys, differentiable in the decision (b, n): scores (b, a, n, n) -> weights."""
    n = scores.shape[-1]
    own = torch.eye(n, dtype=scores.dtype, device=scores.device)
    allowed = decision[:, None, None, :] * (1 - own) + own  # (b, 1, n, n)
    weights = (scores - scores.amax(-1, keepdim=True)).float().exp() * allowed
    return ((weights + eps / n) / (weights.sum(-1, keepdim=True) + eps)).to(scores.dtype)


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, decision: Tensor | None = None) -> Tensor:
        """x (b, n, c) -> (b, n, c)."""
        x = x + self.drop_path(self.attn(self.norm1(x), decision))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class DynamicViT(nn.Module):
    """ViT with a class token that drops patches before some of its blocks.

    Args:
        dim, depth, heads, mlp_ratio: of the ViT.
        keep: ρ, share of the patches that is left after the first stage; ρ² after the second, and so on.
        stages: blocks before which patches are dropped.
        num_classes: length of the logits.
        image_size: pixels of the square image whose grid the stored positions belong to.
        drop_path: stochastic depth of the last block, rising linearly from 0.

    Raises:
        ValueError: keep is not in (0, 1].
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        *,
        keep: float = 0.7,
        stages: Sequence[int] = (3, 6, 9),
        num_classes: int = 1000,
        image_size: int = 224,
        drop_path: float = 0.0,
    ) -> None:
        if not 0 < keep <= 1:
            raise ValueError(f"keep is a share of the patches, in (0, 1]; got {keep}. Pass e.g. keep=0.7.")
        super().__init__()
        self.keep, self.stages = keep, tuple(stages)
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, dim, 16, stride=16)))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image_size // 16) ** 2, dim))
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio, rate) for rate in rates)
        self.score_predictor = nn.ModuleList(Predictor(dim) for _ in stages)
        self.token_keeper = nn.ModuleList(TokenKeeper() for _ in stages)
        self.norm = LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        for table in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(table, std=0.02)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Image (b, 3, h, w) -> logits (b, num_classes); in training also each stage's decisions (b, n)."""
        x = self.patch_embed(x)  # (b, c, r, s)
        positions = resample_abs_pos_embed(self.pos_embed, list(x.shape[2:]))
        x = x.flatten(2).transpose(1, 2)  # (b, c, n) -> (b, n, c)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + positions  # (b, 1 + n, c)
        return self._train_on(x) if self.training else self.head(self.norm(self._prune(x))[:, 0])

    def _prune(self, x: Tensor) -> Tensor:
        """Run the blocks on ever fewer of the tokens x (b, 1 + n, c)."""
        n = x.shape[1] - 1
        patches = torch.arange(n, device=x.device).expand(x.shape[0], n)  # (b, n)
        for index, block in enumerate(self.blocks):
            if index in self.stages:
                stage = self.stages.index(index)
                score = self.score_predictor[stage](x[:, 1:], torch.ones_like(x[:, 1:, 0]))[..., 0]  # (b, n)
                count = max(1, int(n * self.keep ** (stage + 1)))
                x, patches = self.token_keeper[stage](x, score, patches, count)
            x = block(x)
        return x

    def _train_on(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks on all tokens x (b, 1 + n, c), the dropped ones masked; draws random numbers."""
        decision, decisions = torch.ones_like(x[:, 1:, 0]), []  # (b, n)
        for index, block in enumerate(self.blocks):
            if index in self.stages:
                score = self.score_predictor[self.stages.index(index)](x[:, 1:], decision)
                decision = decision * F.gumbel_softmax(score, hard=True)[..., 0]
                decisions.append(decision)
            x = block(x, F.pad(decision, (1, 0), value=1.0))  # the class token is always there
        return self.head(self.norm(x)[:, 0]), decisions


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def dynamicvit_deit_s_07(**options: Any) -> DynamicViT:
    """DynamicViT on DeiT-S, ρ = 0.7: 22.8 M parameters, 3.0 GMACs."""
    return DynamicViT(384, 12, 6, **options)
