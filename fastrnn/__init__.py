"""Fused LSTM, GRU and Elman layers as drop-in replacements for those of torch.nn.

``fastrnn.LSTM`` stands in for ``torch.nn.LSTM``, and so on; ``fastrnn.convert(model)`` swaps all in a model.
"""

from fastrnn import functional, reference
from fastrnn.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.convert import convert, to_torch
from fastrnn.modules import GRU, LSTM, RNN

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "convert",
    "functional",
    "reference",
    "to_torch",
]
