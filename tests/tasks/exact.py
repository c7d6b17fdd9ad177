"""What a test of resumption needs: equality to the last bit, and an end as sudden as a kill."""

import torch


class Kill(BaseException):
    """As sudden as a signal: nothing in the program may catch it."""


def same(a, b):
    """Equal to the last bit, through dicts, lists and tensors."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
