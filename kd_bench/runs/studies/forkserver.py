"""The first import of a study's fork server, which from then on ends with the study, even while it imports the rest."""

import sys

from kd_bench.training.signals import end_with_parent

if "multiprocessing.forkserver" in sys.orig_argv[-1]:  # the command of such a server
    end_with_parent()
