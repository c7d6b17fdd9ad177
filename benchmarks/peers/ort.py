"""ONNX Runtime: its LSTM, GRU and RNN operators, inference only, on buffers that are bound once."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch

from benchmarks.grid import Case
from benchmarks.peers.common import Prepared, Weights, by_gate, plain, random_input

# torch's gates are i f g o and r z n, the operators' i o f c and z r h
_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


def runs(case: Case, mode: str) -> bool:
    return mode == "forward" and plain(case)


def lacks() -> str:
    return "" if importlib.util.find_spec("onnx") else "the package onnx is not installed"


def model(case: Case, weights: Weights) -> bytes:
    """The operator alone, its weights inside: X (T, B, I) -> Y (T, 1, B, H)."""
    from onnx import TensorProto, helper, numpy_helper

    w_ih, w_hh, b_ih, b_hh = (by_gate(w, _ORDER[case.cell]) for w in weights.values())
    constants = {"W": w_ih[None], "R": w_hh[None], "B": torch.cat([b_ih, b_hh])[None]}
    options = {"linear_before_reset": 1} if case.cell == "gru" else {}
    node = helper.make_node(case.cell.upper(), ["X", *constants], ["Y"], hidden_size=case.H, **options)
    shapes = {"X": (case.T, case.B, case.I), "Y": (case.T, 1, case.B, case.H)}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    values = [numpy_helper.from_array(t.numpy(), name) for name, t in constants.items()]
    graph = helper.make_graph([node], case.cell, [x], [y], values)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return made.SerializeToString()


def prepare(case: Case, mode: str, weights: Weights) -> Prepared:
    """The intra-op pool has as many threads as torch has; it spins by default, as in its users' programs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    session: Any = ort.InferenceSession(model(case, weights), options, providers=["CPUExecutionProvider"])
    output = np.empty((case.T, 1, case.B, case.H), np.float32)
    binding = session.io_binding()
    x = ort.OrtValue.ortvalue_from_numpy(random_input(case).numpy())
    y = ort.OrtValue.ortvalue_from_numpy(output)
    binding.bind_ortvalue_input("X", x)
    binding.bind_ortvalue_output("Y", y)

    def forward() -> None:
        session.run_with_iobinding(binding)

    forward()
    return Prepared(forward, torch.from_numpy(y.numpy().copy()).reshape(-1, case.H))
