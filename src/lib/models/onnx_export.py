"""A classifier as ONNX, in float32 and in int8.

torch's older exporter is used on purpose: its graphs are those that ONNX Runtime's fusions know,
and on a fused graph whole attention layers run in int8. With eager attention nothing of flash
attention or compiled layers gets into the graph.

int8 is dynamic, per channel, with weights of 7 bits: processors without VNNI add two products in
16 bits, which 8 bits would overflow. So a file gives the same labels on all of them.
"""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

LEVELS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "the word embeddings": ("embeddings",),
    "the word embeddings and the second layer of each MLP": (
        "embeddings",
        "/output/dense",
        "/mlp/Wo",
    ),
}
"""What is kept in float -> parts of the names of its nodes (not of attention); most int8 first."""


class _Logits(nn.Module):
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def export(model: PreTrainedModel, path: Path) -> None:
    """Write `model` as float32 ONNX with fused layers: int64 [n, tokens] in, logits [n, classes]
    out, for any n and number of tokens."""
    from onnxruntime.transformers import optimizer

    model = copy.deepcopy(model).float().cpu().eval()
    model.set_attn_implementation("eager")
    wrapped = _Logits(model).eval()
    ids = torch.ones(2, 8, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0  # without padding the mask would be left out of the graph
    inputs = ["input_ids", "attention_mask"]
    axes: dict[str, dict[int, str]] = {name: {0: "batch", 1: "tokens"} for name in inputs}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing and of the exporter's age
        torch.onnx.export(
            wrapped,
            (ids, mask),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=inputs,
            output_names=["logits"],
            dynamic_axes=axes | {"logits": {0: "batch"}},
        )
    config: Any = model.config
    fused = optimizer.optimize_model(
        str(path),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
    )
    fused.save_model_to_file(str(path))


def quantise(source: Path, target: Path, keep: tuple[str, ...]) -> None:
    """Write a float32 ONNX model with weights and activations in int8.

    Args:
        keep: a value of LEVELS.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(source).graph.node
    kept = [
        node.name
        for node in nodes
        if any(part in node.name for part in keep) and "/attention/" not in node.name
    ]
    if "embeddings" in keep:
        kept += [node.name for node in nodes if node.op_type == "EmbedLayerNormalization"]
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a preprocessing that the fusions have done
    try:
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            # what fused layers give has no type that the quantiser could find out
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    finally:
        logger.setLevel(level)
