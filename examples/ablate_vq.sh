#!/usr/bin/env bash
# What the vector quantiser is worth: the same shards and seed with and without it, and some structures held out of
# training (but for the groups that they are in). Writes a Markdown table of text-only IoU: phrases seen in training, phrases held out, and both
# for the structures held out. OPTIONS go to both trainings. Interrupted? The same command continues.
# Usage: [PRESET=small] [STEPS=2000] [BATCH=16] [GPUS=2] [DEVICE=auto] [LIMIT=40] [HELD_OUT=a,b]
#        [SEED=0] [OPTIONS="--prompts 2"] examples/ablate_vq.sh SHARDS [FOLDER]
set -euo pipefail
shards=${1:?usage: ablate_vq.sh SHARDS [FOLDER]}
out=${2:-ablation}
held_out=${HELD_OUT:-kidney_left,scapula_right,vertebrae_L3,hip_left}
export OMP_WAIT_POLICY=PASSIVE
here=$(dirname "$0")

labels=()
for arm in with without; do
  flag=(); [ "$arm" = with ] || flag=(--no-vq)
  fluoro train "$shards" --preset "${PRESET:-small}" --steps "${STEPS:-2000}" --batch "${BATCH:-16}" \
    ${GPUS:+--gpus "$GPUS"} --device "${DEVICE:-auto}" --seed "${SEED:-0}" --exclude-structures "$held_out" \
    "${flag[@]}" ${OPTIONS:-} -o "$out/$arm/run" --resume >&2
  for phrases in train test; do
    fluoro eval "$out/$arm/run" "$shards" --phrases "$phrases" --prompts text --noc 0 --limit "${LIMIT:-40}" \
      -o "$out/$arm/$phrases" --resume >&2
    seen=seen; [ "$phrases" = train ] || seen="held out"
    labels+=("$arm VQ, phrases $seen=$out/$arm/$phrases")
  done
done
python "$here/evidence_table.py" "${labels[@]}" --held-out "$held_out" | tee "$out/table.md"
