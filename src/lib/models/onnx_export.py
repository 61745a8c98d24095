"""A classifier as ONNX, in float32 and in int8.

torch's older exporter is used on purpose: its graphs are those that ONNX Runtime's fusions know,
and on a fused graph whole attention layers run in int8. With eager attention nothing of flash
attention or compiled layers gets into the graph.

int8 is dynamic: each layer's inputs are scaled by their largest value. A layer whose inputs have
outliers loses nearly all there, so the worst of them stay in float (`outliers`), as does the head.
Measured on the demo's model, 500 texts, share of labels equal to float32: all in int8 0.908,
without the 3 worst of 36 layers 0.954, with these and unsigned weights 0.976. Signed weights
overflow on processors without VNNI, or have 7 bits; unsigned ones are exact on all of them.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lib.models.encoder import Encoder, hardware
from lib.models.inference import predict

LEVELS = (1 / 4, 1 / 2, 1)
"""How many layers stay in float, tried in this order, as a share of the model's blocks."""


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
    with _silent(logging.INFO):  # each fusion has a line
        fused = optimizer.optimize_model(
            str(path),
            model_type="bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            opt_level=0,
        )
        fused.save_model_to_file(str(path))


@contextlib.contextmanager
def _silent(level: int) -> Iterator[None]:
    """No log up to this level: ONNX Runtime's loggers have many names."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


def outliers(encoder: Encoder, texts: list[str]) -> list[str]:
    """Names of the encoder's linear layers, those with the largest outliers in their input first.

    An outlier is measured by the largest value against the root mean square, over all texts.
    """
    found: dict[str, list[float]] = {}

    def look(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Tensor]) -> None:
            values = given[0].float()
            ratio = float(values.abs().max() / values.pow(2).mean().sqrt())
            found.setdefault(name, []).append(ratio)  # several threads do it at a time

        return hook

    modules = encoder.model.base_model.named_modules(prefix=encoder.model.base_model_prefix)
    layers = [(name, module) for name, module in modules if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_pre_hook(look(name)) for name, module in layers]
    try:
        predict(encoder, encoder.tokenize(texts), **hardware("float32", "cpu"))
    finally:
        for hook in hooks:
            hook.remove()
    return sorted(found, key=lambda name: -max(found[name]))


def quantise(source: Path, target: Path, base: str, worst: list[str], count: int) -> list[str]:
    """Write a float32 ONNX model with weights and activations in int8.

    Args:
        base: name of the module that is the encoder; what is outside is the head.
        worst: as `outliers` gives them; the first `count` of those that are layers of their own in
            the graph stay in float. The head does, too.
    Returns:
        The layers in float, without the head.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(source).graph.node
    # "/model/bert/encoder/layer.4/output/dense/MatMul" is the module bert.encoder.layer.4…dense
    of_module = {
        node.name.strip("/").replace("/", ".").removeprefix("model.").removesuffix(".MatMul"): node
        for node in nodes
        if node.op_type == "MatMul"
    }
    kept = [name for name in worst if name in of_module][:count]
    # a layer of the head, or a pooler, is a MatMul if it has no bias; a Gemm, which only works on
    # one vector for each text, is renamed before
    head = [node.name for name, node in of_module.items() if not name.startswith(f"{base}.")]
    head += [f"{node.name}_MatMul" for node in nodes if node.op_type == "Gemm"]
    with _silent(logging.WARNING):  # it recommends a preprocessing that the fusions have done
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=[*(of_module[name].name for name in kept), *head],
            # what fused layers give has no type that the quantiser could find out
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    return kept
