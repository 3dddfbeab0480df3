"""Splits by a fixed hash: stratified, the same on every machine, nested (a smaller part is inside a larger one)."""

import hashlib

import torch
from torch import Tensor

from kd_bench.data.randomness import key, uniform


def stratified_order(targets: Tensor, salt: str) -> Tensor:
    """Order positions so that every prefix has the class shares of ``targets`` (N,), up to one sample a class.

    Samples of a class are ordered by a hash of their position and ``salt``; then the k-th of n_c samples of class c
    gets the place (k + 1/2) / n_c, ties broken by the hash.
    """
    index = torch.arange(len(targets))
    scattered = uniform(key(*hashlib.sha256(salt.encode()).digest()[:8]), 0, 0, index)
    place = torch.empty(len(targets), dtype=torch.float64)
    for label in torch.unique(targets):
        members = (targets == label).nonzero().squeeze(1)
        ranked = members[scattered[members].argsort(stable=True)]
        place[ranked] = (torch.arange(len(ranked), dtype=torch.float64) + 0.5) / len(ranked)
    by_hash = scattered.argsort(stable=True)
    return by_hash[place[by_hash].argsort(stable=True)]


def carve(targets: Tensor, count: int, salt: str) -> tuple[Tensor, Tensor]:
    """Return the positions of ``count`` samples carved out and of the rest, each in ascending order."""
    order = stratified_order(targets, salt)
    return order[:count].sort().values, order[count:].sort().values
