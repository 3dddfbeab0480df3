"""kd_bench: a benchmark suite for knowledge distillation of image classifiers."""

__version__ = "0.1.0"
