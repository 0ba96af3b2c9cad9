"""EViT: a trained ViT that drops the patches which its class token looks at least, with no training for it.

Paper: Liang, Ge, Tong, Song, Wang, Xie 2022, "Not All Patches are What You Need: Expediting Vision
Transformers via Token Reorganizations", arXiv 2202.07800.

    score     sⱼ = 1/a Σ_heads softmax( q_cls kⱼᵀ / √d ), of the block before the stage
    keep      the ⌊ρˢ N⌋ patches with the highest score go on, the others are gone (s = 1, 2, 3)

Deviation: dropped patches are gone; the paper joins them into one token. They leave between two blocks, as
in DynamicViT (see dynamic_vit.py), and not between attention and MLP.

Shapes: b batch, a heads, n tokens (class token first), d channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vizlib.models.architectures.dynamic_vit import TokenKeeper
from vizlib.types import Classifier


class ScoredAttention(nn.Module):
    """A block's own attention, which also tells how much the class token looks at each patch."""

    def forward(self, attention: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens x (b, 1 + n, c) -> (b, 1 + n, c); scores (b, n), mean over heads."""
        qkv = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1))  # (b, 1 + n, 3, a, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (b, a, 1 + n, d)
        q, k = attention.q_norm(q), attention.k_norm(k)
        looks = (q[:, :, :1] @ k.transpose(2, 3) * attention.scale).softmax(-1)  # (b, a, 1, 1 + n)
        dropout = attention.attn_drop.p if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=attention.scale)
        seen = attention.norm(seen.transpose(1, 2).flatten(2))  # (b, 1 + n, a, d) -> (b, 1 + n, a·d)
        return attention.proj_drop(attention.proj(seen)), looks[:, :, 0, 1:].mean(1)


class EViT(nn.Module):
    """A ViT of timm with one class token, which drops patches before some of its blocks.

    Args:
        vit: is used as it is, weights and all.
        keep: ρ, share of the patches that is left after the first stage; ρ² after the second, and so on.
        stages: blocks before which patches are dropped; by default after each quarter of the blocks.

    Raises:
        ValueError: no such ViT or blocks, a share outside (0, 1], or a stage that is no block or the first.
    """

    def __init__(self, vit: nn.Module, keep: float = 0.7, stages: Sequence[int] = ()) -> None:
        super().__init__()
        if not isinstance(vit, VisionTransformer) or vit.num_prefix_tokens != 1:
            raise ValueError(f"a ViT of timm with a class token alone is needed; got {type(vit).__name__}.")
        if not 0 < keep <= 1:
            raise ValueError(f"keep is a share of the patches, in (0, 1]; got {keep}. Pass e.g. keep=0.7.")
        depth = len(vit.blocks)
        self.vit, self.keep = vit, keep
        self.stages = tuple(stages) or tuple(sorted({max(1, depth * quarter // 4) for quarter in (1, 2, 3)}))
        if not all(0 < stage < depth for stage in self.stages):
            raise ValueError(f"stages are blocks from 1 to {depth - 1}; got {self.stages}.")
        if not all(_is_plain(block) for block in vit.blocks):
            raise ValueError(
                "blocks of norm, ungated attention, norm and MLP are needed; this ViT has others. Take timm's "
                "vit_…, deit_… or zoo/vit."
            )
        self.scored = nn.ModuleList(ScoredAttention() for _ in self.stages)
        self.token_keeper = nn.ModuleList(TokenKeeper() for _ in self.stages)

    def forward(self, x: Tensor) -> Tensor:
        """Image (b, 3, h, w) -> logits (b, classes)."""
        vit: Any = self.vit
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(x)))  # (b, 1 + n, c)
        n, score = x.shape[1] - 1, x[:, 1:, 0]
        patches = torch.arange(n, device=x.device).expand(x.shape[0], n)  # (b, n)
        for index, block in enumerate(vit.blocks):
            if index in self.stages:
                stage = self.stages.index(index)
                count = max(1, int(n * self.keep ** (stage + 1)))
                x, patches = self.token_keeper[stage](x, score, patches, count)
            if index + 1 not in self.stages:
                x = block(x)
                continue
            attend = self.scored[self.stages.index(index + 1)]
            seen, score = attend(block.attn, block.norm1(x))
            x = x + block.drop_path1(block.ls1(seen))
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        logits: Tensor = vit.forward_head(vit.norm(x))
        return logits


def dropping(clf: Classifier, keep: float = 0.7, stages: Sequence[int] = ()) -> Classifier:
    """A classifier with a ViT of timm as one that drops patches; Args and Raises as of `EViT`."""
    module = EViT(clf.module, keep, stages).train(clf.module.training)
    return replace(clf, module=module, name=f"{clf.name}, keep {keep:g}")


def _is_plain(block: nn.Module) -> bool:
    return isinstance(block, Block) and isinstance(block.attn, Attention) and block.attn.gate is None
