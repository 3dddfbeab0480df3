"""The help of the command ``train``; Hydra takes everything else."""

import argparse

HELP = "Train one run, or a sweep with -m: a Hydra application."
EXAMPLE = "kd-bench train student.name=mobilenetv3_small_050 teacher=resnet18 method=kd recipe.epochs=10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command for ``--help``, ten times faster than Hydra's own help."""
    from kd_bench.cli.listing import groups

    choices = "\n".join(f"  {group}={'|'.join(names)}" for group, names in groups().items())
    parser.usage = "kd-bench train [GROUP=CHOICE ...] [KEY=VALUE ...] [-m] [--cfg job] [--config-dir DIR]"
    parser.description = f"""{parser.description}

choose:
{choices}
change any value that `kd-bench train --cfg job` shows:
  recipe.epochs=10 method.temperature=2 student.name=ANY_TIMM_MODEL
sweep with -m over lists of values:
  kd-bench train -m method=scratch,kd seed=0,1,2
complete with TAB:
  eval "$(kd-bench -sc install=bash)"
everything that Hydra offers: kd-bench train --hydra-help"""
