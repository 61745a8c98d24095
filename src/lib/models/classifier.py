"""What all classifiers have in common, whichever class of transformers they are.

A classifier is the stock `...ForSequenceClassification` of its architecture, so anyone opens it
without code of ours. BERT, RoBERTa and XLM-R classify from the first token, ModernBERT from the
first token or the mean. The pooled vector, for the embedding store and the metric loss, comes out
of the same forward pass; its pooling is chosen apart.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

POOLER = "pooler"  # BERT's, which is a part of its head


def classify(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, pooling: str
) -> tuple[Tensor, Tensor]:
    """Logits float [n, classes] and pooled vectors float32 [n, d] of int [n, tokens]."""
    # of the last layer alone: all layers' would be most of the memory
    output = model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=[-1])
    return output.logits, pool(output.hidden_states[-1], attention_mask, pooling)


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """One vector per text, float32: hidden [n, tokens, d], attention_mask [n, tokens] -> [n, d].

    Args:
        pooling: `cls` (the first token) or `mean` (over the tokens that are no padding).
    """
    if pooling == "cls":
        return hidden[:, 0].float()
    mask = attention_mask.unsqueeze(-1)
    return (hidden.float() * mask).sum(1) / mask.sum(1).clamp(min=1)


def last_layer(model: Any) -> nn.Linear:
    """The linear layer that gives the logits."""
    encoder = {*model.base_model.modules()}  # it comes before the head in BERT, behind in XLM-R
    head = [module for module in model.modules() if module not in encoder]
    return [module for module in head if isinstance(module, nn.Linear)][-1]


def start_as_identity(model: nn.Module, missing: Collection[str]) -> None:
    """Make each linear layer from d to d whose weights are `missing` the identity, in place.

    So the last layer sees the pretrained vector at first, not a random projection of it.
    """
    for name, module in model.named_modules():
        square = isinstance(module, nn.Linear) and module.in_features == module.out_features
        if square and f"{name}.weight" in missing:
            nn.init.eye_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def keep_head_float32(model: Any) -> None:
    """Cast the head back to float32, and what enters it: logits in bfloat16 would be too coarse.

    The head is all that is not the encoder, and BERT's pooler within it.
    """
    encoder = model.base_model
    head = [child for child in model.children() if child is not encoder]
    head += [child for name, child in encoder.named_children() if name == POOLER]
    for module in head:
        module.float()
        module.register_forward_pre_hook(lambda _, given: (given[0].float(), *given[1:]))
