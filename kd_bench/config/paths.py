"""Shipped folders, which lie beside the package in a checkout and inside it in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def _shipped(folder: str) -> Path:
    in_checkout, in_wheel = _PACKAGE.parent / folder, _PACKAGE / folder
    return in_wheel if in_wheel.is_dir() else in_checkout


CONF = _shipped("conf")
EXPERIMENTS = _shipped("experiments")
PUBLISHED = _shipped("results/published")
CHECKOUT = _PACKAGE.parent
