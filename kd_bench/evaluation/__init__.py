"""From predictions to metrics. Each metric is computed over all samples of a split and has an independent oracle."""
