"""ONNX Runtime: model and error as one graph, written node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.cases import BATCH_NORM_EPSILON
from benchmarks.systems.job import ByBatchSize, Job, NotApplicable, slices

_FUNCTIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "linear": "Identity"}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}


def graph(job: Job) -> onnx.ModelProto:
    """The case as an ONNX model from "rows" [n, *shape] to "scores" [n]."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(value: np.ndarray) -> str:
        name = f"constant_{len(constants)}"
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, *inputs: str, **settings: Any) -> str:
        out = f"value_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [out], **settings))
        return out

    axes = list(range(1, len(job.case.shape) + 1))
    x = node("Transpose", "rows", perm=[0, 3, 1, 2]) if job.case.is_image else "rows"
    y = x
    for layer, arrays in zip(job.case.layers, job.weights, strict=True):
        if layer.kind in ("dense", "posterior"):
            y = node("Gemm", y, constant(arrays["kernel"]), constant(arrays["bias"]))
        elif layer.kind in ("conv", "conv_transpose"):
            # "SAME": all zeros of a strided layer lie at the end.
            before = 0 if layer.stride > 1 else layer.kernel // 2
            after = layer.kernel - layer.stride - before
            settings = {
                "kernel_shape": [layer.kernel] * 2,
                "strides": [layer.stride] * 2,
                "pads": [before, before, after, after],
            }
            kernel = arrays["kernel"].transpose(3, 2, 0, 1)
            if layer.kind == "conv_transpose":
                kernel = arrays["kernel"][::-1, ::-1].transpose(2, 3, 0, 1)
            kind = "Conv" if layer.kind == "conv" else "ConvTranspose"
            y = node(kind, y, constant(kernel), constant(arrays["bias"]), **settings)
        elif layer.kind == "batch_norm":
            given = [constant(arrays[name]) for name in ("scale", "bias", "mean", "var")]
            y = node("BatchNormalization", y, *given, epsilon=BATCH_NORM_EPSILON)
        elif layer.kind == "max_pool":
            y = node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
        elif layer.kind == "upsample":
            scales = constant(np.array([1, 1, 2, 2], np.float32))
            y = node(
                "Resize", y, "", scales, mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )  # fmt: skip
        else:
            y = node(_FUNCTIONS[layer.function], y)
    difference = node("Sub", x, y)
    square = node("Mul", difference, difference)
    nodes.append(helper.make_node("ReduceMean", [square], ["scores"], axes=axes, keepdims=0))
    made = helper.make_graph(
        nodes,
        "scores",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", *job.case.shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"])],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class Scoring(ByBatchSize):
    """A session with all graph optimisations, called in a loop over batches."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        provider = _PROVIDERS.get(job.platform)
        if provider not in onnxruntime.get_available_providers():
            raise NotApplicable(f"this build of ONNX Runtime has no provider for {job.platform}")
        self.session = onnxruntime.InferenceSession(
            graph(job).SerializeToString(), providers=[provider]
        )
        self.facts = {"same_weights": True, "onnxruntime": onnxruntime.__version__}

    def score(self, rows: np.ndarray) -> np.ndarray:
        parts = (rows[s] for s in slices(len(rows), self.batch_size))
        return np.concatenate([self.session.run(["scores"], {"rows": x})[0] for x in parts])
