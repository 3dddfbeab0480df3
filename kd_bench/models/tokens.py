"""Tokens of timm's vision transformers: what the class token attends to, and passes that see some patches alone.

Shapes: ``B`` batch, ``P`` class and distillation tokens, ``N`` patch tokens, ``D`` their size.
"""

import torch
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn


def has_class_attention(network: nn.Module) -> bool:
    """Return whether ``class_attention`` can be computed: a class token, two blocks at least, plain attention."""
    if not isinstance(network, VisionTransformer) or network.cls_token is None or len(network.blocks) < 2:
        return False
    return type(getattr(network.blocks[-1], "attn", None)) is Attention


def can_drop_tokens(network: nn.Module) -> bool:
    """Return whether ``forward_kept`` can run: each token has its position by the time some are left out."""
    return isinstance(network, VisionTransformer) and network.pos_embed is not None


@torch.no_grad()
def class_attention(network: VisionTransformer, tokens: Tensor) -> Tensor:
    """Return the attention (B, heads, N) of the last block from the class token to the patches, before any dropout.

    It is computed anew from the block's input, without gradient: a fused attention keeps no weights.

    Args:
        tokens: (B, P + N, D), the output of the last block but one.
    """
    block = network.blocks[-1]
    attention = block.attn
    batch, count, _ = tokens.shape
    projected = attention.qkv(block.norm1(tokens)).reshape(batch, count, 3, attention.num_heads, -1)
    queries, keys, _ = projected.permute(2, 0, 3, 1, 4).unbind(0)
    queries, keys = attention.q_norm(queries[:, :, :1]), attention.k_norm(keys)
    weights: Tensor = (queries.float() * attention.scale @ keys.float().mT).softmax(dim=-1)
    return weights[:, :, 0, network.num_prefix_tokens :]


def keep_tokens(tokens: Tensor, kept: Tensor, prefix: int) -> Tensor:
    """Return the first ``prefix`` tokens of (B, P + N, D) and then the patches at ``kept`` (B, K), in that order."""
    index = (prefix + kept)[:, :, None].expand(-1, -1, tokens.shape[2])
    return torch.cat([tokens[:, :prefix], tokens.gather(1, index)], dim=1)


def forward_kept(network: VisionTransformer, x: Tensor, kept: Tensor) -> Tensor:
    """Return the final tokens (B, P + K, D) of a pass that sees the patches at ``kept`` (B, K) alone.

    The others are left out after the position embedding and before the first block.
    """
    tokens = network._pos_embed(network.patch_embed(x))
    tokens = network.norm_pre(keep_tokens(tokens, kept, network.num_prefix_tokens))
    final: Tensor = network.norm(network.blocks(tokens))
    return final
