"""A step of training, for tests of what comes after one."""

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
