"""The sentiment classifier: any Hugging Face encoder, a pooled vector, one linear layer.

One class serves BERT, XLM-R and ModernBERT alike, with the pooling stated in the configuration.
It is a normal Hugging Face model: `save_pretrained`, and `AutoModelForSequenceClassification`
loads it (outside this project with `trust_remote_code=True`: this file is saved beside the
weights; it needs only torch and transformers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput


class PooledClassifierConfig(PretrainedConfig):
    """Configuration: the encoder's own configuration as a dict, `pooling` and `head_dropout`."""

    model_type = "pooled_classifier"

    def __init__(
        self,
        encoder: dict | None = None,
        pooling: str = "cls",
        head_dropout: float = 0.1,
        **kwargs,
    ):
        self.encoder = encoder or {}
        self.pooling = pooling
        self.head_dropout = head_dropout
        super().__init__(**kwargs)


@dataclass
class PooledClassifierOutput(ModelOutput):
    """loss: scalar if labels were given; logits: float [n, classes]; pooled: float [n, d]."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    pooled: Tensor | None = None


class PooledClassifier(PreTrainedModel):
    """Encoder -> pooled vector -> dropout -> linear layer."""

    config_class = PooledClassifierConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: PooledClassifierConfig, encoder: nn.Module | None = None):
        super().__init__(config)
        if encoder is None:
            settings = dict(config.encoder)
            kind = settings.pop("model_type")
            encoder = AutoModel.from_config(AutoConfig.for_model(kind, **settings))
        if hasattr(encoder, "pooler"):
            encoder.pooler = None  # BERT's own pooler is not part of this model
        self.encoder = encoder
        self.dropout = nn.Dropout(config.head_dropout)
        shape: Any = encoder.config
        self.classifier = nn.Linear(shape.hidden_size, len(config.id2label or {}))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.classifier:  # the encoder comes with its own weights
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def pool(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector per text: hidden [n, tokens, d], attention_mask [n, tokens] -> [n, d]."""
        if self.config.pooling == "cls":
            return hidden[:, 0].float()
        mask = attention_mask.unsqueeze(-1)
        return (hidden.float() * mask).sum(1) / mask.sum(1).clamp(min=1)

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Pooled vectors, [n, d], of int [n, tokens]."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.pool(hidden, attention_mask)

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits, float [n, classes], of pooled vectors [n, d]."""
        with torch.autocast(pooled.device.type, enabled=False):  # the small head stays exact
            return self.classifier(self.dropout(pooled).to(self.classifier.weight.dtype))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **_: object,
    ) -> PooledClassifierOutput:
        """input_ids, attention_mask: int [n, tokens]; labels: int [n]."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        pooled = self.embed(input_ids, attention_mask)
        logits = self.classify(pooled)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return PooledClassifierOutput(loss=loss, logits=logits, pooled=pooled)


AutoConfig.register(PooledClassifierConfig.model_type, PooledClassifierConfig, exist_ok=True)
AutoModelForSequenceClassification.register(PooledClassifierConfig, PooledClassifier, exist_ok=True)
PooledClassifierConfig.register_for_auto_class()
PooledClassifier.register_for_auto_class("AutoModelForSequenceClassification")
