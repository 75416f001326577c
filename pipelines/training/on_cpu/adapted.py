"""A linear layer with its adapter, in as few passes over memory as it takes.

PEFT widens what goes into a layer to the adapter's float32, and narrows what comes out; between
them it scales and adds in passes of their own. Around a small model all that takes longer than the
adapter's arithmetic. Here it is done in the precision of the layer, and a product adds what it
comes to (`addmm`). The weights of the adapter, and their gradients, stay in float32.

Everything here imports torch and belongs in a child process.
"""

from functools import partial
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor


def quicken(model: PeftModel) -> None:
    """Let every plain linear layer of the model go this way, with whatever adapter is active.

    Layers of other kinds, 4 bits among them, go PEFT's.
    """
    for layer in model.modules():
        if type(layer) is Linear and type(layer.get_base_layer()) is torch.nn.Linear:
            layer.forward = partial(_forward, layer, layer.forward)  # type: ignore[method-assign]


def _forward(layer: Linear, peft: Any, x: Tensor, *args: Any, **how: Any) -> Tensor:
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    plain = not (layer.disable_adapters or layer.merged or args or how or layer.lora_variant)
    if not plain or len(names) != 1 or _drops_out(layer, names[0]):
        said: Tensor = peft(x, *args, **how)
        return said
    base, down, up = layer.get_base_layer(), layer.lora_A[names[0]], layer.lora_B[names[0]]
    found: Tensor = cast("Any", _Adapted).apply(
        x, base.weight, base.bias, down.weight, up.weight, layer.scaling[names[0]]
    )
    return found


def _drops_out(layer: Linear, name: str) -> bool:
    return layer.training and not isinstance(layer.lora_dropout[name], torch.nn.Identity)


class _Adapted(torch.autograd.Function):
    """x W' + b + s (x A') B': a layer and its adapter of rank r (arXiv 2106.09685, equation 3).

    W is frozen.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, s: float
    ) -> Tensor:
        """
        Args:
            x: [..., in].
            weight: [out, in].
            a: [r, in].
            b: [out, r].
            s: the adapter's scaling.
        """
        rows = x.reshape(-1, x.size(-1))
        down, up = a.to(x.dtype), b.to(x.dtype)
        inner = rows @ down.T
        out = torch.nn.functional.linear(rows, weight, bias).addmm_(inner, up.T, alpha=s)
        ctx.save_for_backward(rows, weight, down, up, inner)
        ctx.s, ctx.wide = s, a.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        rows, weight, down, up, inner = ctx.saved_tensors
        [gradient] = gradients
        out = gradient.reshape(-1, gradient.size(-1))
        back = out @ up
        of_x = of_a = of_b = None
        if ctx.needs_input_grad[0]:
            of_x = (out @ weight).addmm_(back, down, alpha=ctx.s)
            of_x = of_x.view(*gradient.shape[:-1], -1)
        if ctx.needs_input_grad[3]:
            of_a = (back.T @ rows).to(ctx.wide).mul_(ctx.s)
        if ctx.needs_input_grad[4]:
            of_b = (out.T @ inner).to(ctx.wide).mul_(ctx.s)
        return of_x, None, None, of_a, of_b, None
