"""Adapters that were moved, for tests of what comes after."""

from typing import Any


def one_step(model: Any, learning_rate: float) -> None:
    """Adam's first step: it moves every weight of the adapter by about the learning rate."""
    import torch

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate)
    ids = torch.arange(100, 164)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def with_drawn_adapter(base: Any) -> Any:
    """The model with an adapter that says something: one that is new adds nothing."""
    import torch
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return adapted
