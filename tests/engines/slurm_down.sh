#!/usr/bin/env bash
# Stops what slurm_up.sh DIR has started.
for daemon in slurmctld slurmd; do kill "$(cat "$1/$daemon.pid")" 2>/dev/null; done
true
