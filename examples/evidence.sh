#!/usr/bin/env bash
# Three more tables, each a comparison that the paper lacks: randomisation off, weak and full; a frozen encoder with and
# without adapters; the mask that the network would choose against the best one, which only an oracle can choose.
# DATA (default: SHARDS) is what is measured on: other shards, or images with masks (see `fluoro eval --help`).
# OPTIONS go to every training. Interrupted? The same command continues.
# Usage: [PRESET=small] [STEPS=2000] [TUNING_STEPS=500] [BATCH=16] [GPUS=2] [DEVICE=auto] [LIMIT=40]
#        [SEED=0] [OPTIONS="--prompts 2"] examples/evidence.sh SHARDS [FOLDER] [DATA]
set -euo pipefail
shards=${1:?usage: evidence.sh SHARDS [FOLDER] [DATA]}
out=${2:-evidence}
data=${3:-$shards}
export OMP_WAIT_POLICY=PASSIVE
here=$(dirname "$0")

train() { # NAME OPTIONS...
  local name=$1; shift
  fluoro train "$shards" --batch "${BATCH:-16}" ${GPUS:+--gpus "$GPUS"} --device "${DEVICE:-auto}" --seed "${SEED:-0}" \
    "$@" ${OPTIONS:-} -o "$out/$name/run" --resume >&2
  fluoro eval "$out/$name/run" "$data" --prompts text,points --clicks 3 --noc 0 --limit "${LIMIT:-40}" \
    -o "$out/$name/metrics" --resume >&2
}
table() { # TITLE PROMPT NAME...
  local title=$1 prompt=$2; shift 2
  printf '\n%s (%s)\n\n' "$title" "$prompt"
  python "$here/evidence_table.py" --prompt "$prompt" "${@/%//metrics}"
}

for strength in off weak full; do
  train "augment-$strength" --preset "${PRESET:-small}" --steps "${STEPS:-2000}" --augment "$strength"
done
for adapters in without with; do
  flag=(); [ "$adapters" = without ] || flag=(--adapters)
  train "$adapters-adapters" --from "$out/augment-weak/run" --freeze-encoder "${flag[@]}" \
    --steps "${TUNING_STEPS:-500}" --augment full
done
{
  table "Domain randomisation" text "off=$out/augment-off" "weak=$out/augment-weak" "full=$out/augment-full"
  table "The weakly randomised network, fine-tuned with its encoder frozen" text \
    "without adapters=$out/without-adapters" "with adapters=$out/with-adapters"
  table "Is the IoU head calibrated?" text "full=$out/augment-full"
  table "Is the IoU head calibrated?" points+1 "full=$out/augment-full"
  table "Is the IoU head calibrated?" points+3 "full=$out/augment-full"
} | tee "$out/tables.md"
