"""The recurrent cells and their unrolled loop in plain PyTorch, written to be read.

Everything fast in this package computes what stands here; the tests hold it to that. Only differentiable
functional operations are used (nothing in place, no branch on a tensor's values), so autograd, double
backward, forward mode and ``torch.func`` all go through it.

Letters, here and in the kernels:

    T  time steps     B  sequences in the batch     N  rows of all steps together (packed input)
    I  input size     H  hidden size                P  size of h: H, or the projection's
    G  gates of the cell: Elman 1, GRU 3, LSTM 4

    W_ih  (G*H, I)  input weights          b_ih  (G*H)      G blocks of H rows each,
    W_hh  (G*H, P)  recurrent weights      b_hh  (G*H)      in the gate order of the cell

In the equations s is the logistic sigmoid, s(a) = 1 / (1 + exp(-a)), and * the elementwise product. They are
written for one sequence, whose x_t and h_t are columns; in the code B sequences are the rows of x (B, I) and
h (B, P).
"""

import torch
from torch import Tensor
from torch.nn.functional import linear  # linear(x, W, b) = x @ W^T + b, the affine map on a batch of rows

from fastrnn import modules

__all__ = ["GRU", "LSTM", "RNN", "elman_step", "gru_gates", "gru_step", "lstm_gates", "lstm_step", "recurrent_layer"]


def elman_step(
    x: Tensor,
    h: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    nonlinearity: str = "tanh",
) -> Tensor:
    """One step of the simple recurrent network.

    J. L. Elman, Finding Structure in Time, Cognitive Science 14, 1990. The paper draws it and prints no
    formula; its context units are h_{t-1}::

        (E1)  h_t = act(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)        act = tanh or relu

    Shapes: x (B, I), h (B, H), returns h_t (B, H). Any floating dtype.
    """
    a = linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)  # (B, H)
    return torch.tanh(a) if nonlinearity == "tanh" else torch.relu(a)  # (E1)


def gru_gates(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gates r_t, z_t and n_t, each (B, H), of `gru_step`: its equations 5, 6 and 8."""
    x_r, x_z, x_n = linear(x, w_ih, b_ih).chunk(3, dim=-1)  # each (B, H)
    h_r, h_z, h_n = linear(h, w_hh, b_hh).chunk(3, dim=-1)  # each (B, H)
    r = torch.sigmoid(x_r + h_r)  # (5)
    z = torch.sigmoid(x_z + h_z)  # (6)
    n = torch.tanh(x_n + r * h_n)  # (8)
    return r, z, n


def gru_step(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """One step of the gated recurrent unit (Cho et al., EMNLP 2014, eqs. 5 to 8). Gate order: r, z, n.

    The paper computes the candidate from W_hn (r * h_{t-1}). This is the form of cuDNN and torch, 'reset
    after': the reset gate is applied to the product, so that one product with W_hh serves all three gates::

        (5)  r_t = s(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)           reset gate
        (6)  z_t = s(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)           update gate
        (8)  n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))     candidate ('new' gate)
        (7)  h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    Shapes: x (B, I), h (B, H), returns h_t (B, H). Any floating dtype.
    """
    _, z, n = gru_gates(x, h, w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * n + z * h  # (7)


def lstm_gates(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gates i_t, f_t, g_t and o_t, each (B, H), of `lstm_step`: its equations 7, 8, 9a and 10."""
    gates = linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)  # (B, 4H)
    a_i, a_f, a_g, a_o = gates.chunk(4, dim=-1)  # each (B, H)
    i = torch.sigmoid(a_i)  # (7)
    f = torch.sigmoid(a_f)  # (8)
    g = torch.tanh(a_g)  # (9a)
    o = torch.sigmoid(a_o)  # (10)
    return i, f, g, o


def lstm_step(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    w_hr: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of long short-term memory. Gate order: i, f, g, o.

    Input and output gate and the cell c are Hochreiter & Schmidhuber's (Neural Computation 9, 1997), the
    forget gate is Gers, Schmidhuber & Cummins's (Neural Computation 12, 2000), the projection Sak, Senior &
    Beaufays's (Interspeech 2014). The numbers are those of Sak et al., eqs. 7 to 12, without their peephole
    terms::

        (7)   i_t = s(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)          input gate
        (8)   f_t = s(W_if x_t + b_if + W_hf h_{t-1} + b_hf)          forget gate
        (9a)  g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)       cell input
        (9b)  c_t = f_t * c_{t-1} + i_t * g_t                         cell state
        (10)  o_t = s(W_io x_t + b_io + W_ho h_{t-1} + b_ho)          output gate
        (11)  m_t = o_t * tanh(c_t)                                   cell output
        (12)  h_t = W_hr m_t                                          projection; h_t = m_t without one

    Shapes: x (B, I), h (B, P), c (B, H), w_hr (P, H) or None; returns h_t (B, P), c_t (B, H).
    """
    i, f, g, o = lstm_gates(x, h, w_ih, w_hh, b_ih, b_hh)
    c = f * c + i * g  # (9b)
    m = o * torch.tanh(c)  # (11)
    return (m if w_hr is None else linear(m, w_hr)), c  # (12)


def recurrent_layer(
    cell: str,
    x: Tensor,
    hx: Tensor | None,
    cx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    w_hr: Tensor | None = None,
    batch_sizes: Tensor | list[int] | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One layer in one direction: a cell applied step by step.

    Args:
        cell: 'rnn_tanh', 'rnn_relu', 'gru' or 'lstm'.
        x: (T, B, I), or packed rows (N, I) with `batch_sizes`. T and B are at least 1.
        hx, cx: initial states (B, P) and (B, H); None means zeros. cx belongs to the LSTM alone.
        w_ih, w_hh, b_ih, b_hh, w_hr: the weights, as in the steps above.
        batch_sizes: (T,) int64 on the CPU or a list, non-increasing: step t owns the next batch_sizes[t] rows, one for
            each sequence that is longer than t. The sequences are sorted by length, longest first.
        reverse: walk from the last step to the first. On packed rows a sequence then starts from its own hx
            at its own last step.

    Returns:
        y, (T, B, P) or (N, P): h_t of every step. h_n (B, P) and c_n (B, H): each sequence's state after the
        last step walked; c_n is None unless the cell is 'lstm'.

    The signature is that of `fastrnn.autograd.recurrent_layer`. Like the kernels, it trusts its
    caller: shapes, dtypes and devices are checked in `fastrnn.functional`.
    """
    # T pieces, of (B, I) or of (batch_sizes[t], I)
    sizes = batch_sizes.tolist() if isinstance(batch_sizes, Tensor) else batch_sizes
    rows = x.unbind(0) if sizes is None else x.split(sizes)
    batch, hidden_size = rows[0].shape[0], w_ih.shape[0] // {"lstm": 4, "gru": 3}.get(cell, 1)
    h = x.new_zeros(batch, w_hh.shape[1]) if hx is None else hx  # (B, P)
    c = x.new_zeros(batch, hidden_size) if cx is None else cx  # (B, H)

    outputs = []
    for x_t in reversed(rows) if reverse else rows:
        # The sequences still running at t are the first `live` rows. The others keep their state: forwards it
        # is already their last one, backwards it is still their hx.
        live = x_t.shape[0]
        if cell == "lstm":
            h_t, c_t = lstm_step(x_t, h[:live], c[:live], w_ih, w_hh, b_ih, b_hh, w_hr)
            c = torch.cat([c_t, c[live:]])
        elif cell == "gru":
            h_t = gru_step(x_t, h[:live], w_ih, w_hh, b_ih, b_hh)
        else:
            h_t = elman_step(x_t, h[:live], w_ih, w_hh, b_ih, b_hh, cell.removeprefix("rnn_"))
        h = torch.cat([h_t, h[live:]])
        outputs.append(h_t)
    if reverse:
        outputs.reverse()
    y = torch.stack(outputs) if batch_sizes is None else torch.cat(outputs)
    return y, h, (c if cell == "lstm" else None)


class RNN(modules.RNN):
    """`fastrnn.RNN` with the loop of this file in place of the kernels."""

    recurrent_layer = staticmethod(recurrent_layer)


class GRU(modules.GRU):
    """`fastrnn.GRU` with the loop of this file in place of the kernels."""

    recurrent_layer = staticmethod(recurrent_layer)


class LSTM(modules.LSTM):
    """`fastrnn.LSTM` with the loop of this file in place of the kernels."""

    recurrent_layer = staticmethod(recurrent_layer)
