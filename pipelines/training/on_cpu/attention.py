"""Attention whose gradient is five products of matrices.

torch's own kernel goes forward well on a CPU, and back in ten times that. The way back is computed
here from queries, keys and values, some heads at a time, so that scores of a long text never lie
in memory for all of them. Where an answer is written token by token, it is slow forward too.

Everything here imports torch and belongs in a child process.
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_cpu"
_MOST_SCORES = 2**24
"""That are in memory at once: 64 MiB in float32, three times over."""


def quicken(model: PreTrainedModel) -> None:
    """Let a model on the CPU attend this way where it is trained or writes; elsewhere as it did."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **how: Any,
) -> tuple[Tensor, None]:
    learns = torch.is_grad_enabled() and query.requires_grad
    told = attention_mask is not None and attention_mask.dtype == torch.bool
    plain = not dropout and how.get("position_bias") is None
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    if plain and told and learns:
        found = attended(query, key, value, cast("Tensor", attention_mask), scale)
    elif plain and not learns and query.size(2) == 1 and (told or attention_mask is None):
        found = of_next(query, key, value, attention_mask, scale)
    else:
        said: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **how
        )
        return said
    return found.transpose(1, 2).contiguous(), None


def of_next(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """What `attended` says where there is one query, as for the next token of an answer.

    Heads that share keys go as queries of one head. Of one query a head, torch's kernel takes six
    times as long.
    """
    together = q.reshape(q.size(0), k.size(1), -1, q.size(-1))
    return torch.nn.functional.scaled_dot_product_attention(
        together, k, v, attn_mask=mask, scale=scale
    ).view_as(q)


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """softmax(s Q K' + mask) V, with heads in groups that share keys and values.

    Args:
        q: [batch, heads, queries, d].
        k: [batch, groups, keys, d].
        v: as k.
        mask: [batch or 1, 1, queries, keys], true where a key may be seen.
        scale: s.
    """
    found: Tensor = cast("Any", _Attention).apply(q, k, v, mask, scale)
    return found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        shared = q.size(1) // k.size(1)
        out = torch.nn.functional.scaled_dot_product_attention(
            q,
            k.repeat_interleave(shared, 1),
            v.repeat_interleave(shared, 1),
            attn_mask=mask,
            scale=scale,
        )
        ctx.save_for_backward(q, k, v, mask, out)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        q, k, v, mask, out = ctx.saved_tensors
        [gradient] = gradients
        batch, groups = k.shape[:2]
        # [batch x groups, heads that share, queries, d]: a group's queries meet its keys at once.
        heads = [one.reshape(batch * groups, -1, *one.shape[2:]) for one in (q, out, gradient)]
        pairs = [one.reshape(batch * groups, *one.shape[2:]) for one in (k, v)]
        hidden = ~mask.expand(batch, groups, *mask.shape[2:]).flatten(0, 1)
        found: list[tuple[Tensor, ...]] = []
        most = _at_once(heads[0], pairs[0])
        for first in range(0, batch * groups, most):
            parts = [one[first : first + most] for one in (*heads, *pairs, hidden)]
            found.append(_back(*parts, scale=ctx.scale))
        of_q, of_k, of_v = (torch.cat(parts) for parts in zip(*found, strict=True))
        return of_q.view_as(q), of_k.view_as(k), of_v.view_as(v), None, None


def _at_once(q: Tensor, k: Tensor) -> int:
    """How many groups' scores there may be."""
    return max(1, _MOST_SCORES // (q.size(1) * q.size(2) * k.size(1)))


def _back(
    q: Tensor, out: Tensor, gradient: Tensor, k: Tensor, v: Tensor, hidden: Tensor, *, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v: equations 1 to 6 of arXiv 2205.14135, appendix B."""
    n, shared, queries, _ = q.shape
    q, out, gradient = (one.reshape(n, shared * queries, -1) for one in (q, out, gradient))
    scores = torch.bmm(q, k.transpose(1, 2)).float().mul_(scale).view(n, shared, queries, -1)
    # Not -inf, of which softmax makes no number where a row sees nothing: such padding says 0.
    scores.masked_fill_(hidden[:, None], torch.finfo(scores.dtype).min)
    seen = torch.softmax(scores, -1)
    if (blind := hidden.all(-1)).any():
        seen.masked_fill_(blind[:, None, :, None], 0)
    seen = seen.view(n, shared * queries, -1)
    of_v = torch.bmm(seen.to(q.dtype).transpose(1, 2), gradient)
    of_seen = torch.bmm(gradient, v.transpose(1, 2)).float()
    of_seen.sub_((gradient.float() * out.float()).sum(-1, keepdim=True))
    of_scores = of_seen.mul_(seen).mul_(scale).to(q.dtype)
    return torch.bmm(of_scores, k), torch.bmm(of_scores.transpose(1, 2), q), of_v
