#!/usr/bin/env bash
# A SLURM of one node on this machine, without systemd and accounting, for tests. Needs root.
#   slurm_up.sh DIR; source DIR/env; ...; slurm_down.sh DIR
# Installs Debian's packages where they are absent (Debian 12: slurm 22.05.8, munge 0.5.15).
set -euo pipefail
S=$(realpath -m "$1"); H=$(hostname -s); CPUS=$(nproc); MEM=$(( $(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024 - 512 ))
command -v slurmctld >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
mkdir -p "$S"/{ctld,d,log,bin}
install -d -o munge -g munge -m 0755 /run/munge
pgrep -x munged >/dev/null || setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
cat > "$S/slurm.conf" <<C
ClusterName=local
SlurmctldHost=$H(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5   # a job that is queued again has to wait for so long; the default is 120 s
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$S/ctld
SlurmdSpoolDir=$S/d
SlurmctldPidFile=$S/slurmctld.pid
SlurmdPidFile=$S/slurmd.pid
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MinJobAge=86400
NodeName=$H NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
PartitionName=low  Nodes=$H Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=15
PartitionName=high Nodes=$H MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
C
# submitit asks `sacct`, which wants a database of accounts: this one answers from what slurmctld remembers.
cat > "$S/bin/sacct" <<'C'
#!/bin/sh
echo 'JobID|State|NodeList'
scontrol -o show job | awk '{ delete f; for (i = 1; i <= NF; i++) { n = index($i, "="); f[substr($i, 1, n - 1)] = substr($i, n + 1) }
  if ("ArrayTaskId" in f) id = f["ArrayJobId"] "_" (f["ArrayTaskId"] ~ /^[0-9]+$/ ? f["ArrayTaskId"] : "[" f["ArrayTaskId"] "]"); else id = f["JobId"]
  if (id != "") print id "|" f["JobState"] "|" f["NodeList"] }'
C
chmod +x "$S/bin/sacct"
printf 'export SLURM_CONF=%s PATH=%s/bin:$PATH\n' "$S/slurm.conf" "$S" > "$S/env"; source "$S/env"
slurmctld; slurmd
for _ in $(seq 50); do [ "$(sinfo -h -p low -o %t 2>/dev/null)" = idle ] && { echo "slurm is up: source $S/env"; exit 0; }; sleep .2; done
sinfo; tail -5 "$S"/log/*; exit 1
