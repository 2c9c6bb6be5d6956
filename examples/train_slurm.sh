#!/usr/bin/env bash
# Training on several nodes under SLURM, one process per GPU. Edit the header, then: sbatch examples/train_slurm.sh SHARDS
# The folder runs/big lies on a file system that all nodes see. Before its time is up the job queues itself again, and
# goes on where it was (--resume), as it does after a node's failure.
#SBATCH --job-name=fluoro
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --gpu-bind=none
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
set -euo pipefail
shards=$1
export MASTER_ADDR MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))} # jobs may share a node
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-8}
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-8}" bash -c '
  export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
  export LOCAL_WORLD_SIZE=${SLURM_NTASKS_PER_NODE%%[!0-9]*}
  exec fluoro train "$0" --device cuda --preset swin-l-448 --batch 64 --epochs 10 -o runs/big --resume' "$shards" &
wait $!
