#!/usr/bin/env bash
# The whole chain on generated phantoms, no patient data: CTs, X-rays, words, shards, a network, its scores, a mask.
# Usage: examples/demo.sh [FOLDER]. Interrupted? The same command continues.
set -euo pipefail
out=${1:-demo}
export OMP_WAIT_POLICY=PASSIVE

step() { printf '\n== %s\n' "$*" >&2; }

step "1/8  twelve bodies that nobody has: CT volumes with their labels"
fluoro phantom "$out/phantom" --count 12 --spacing 3 --resume

step "2/8  cases: CT + labels in one form (here the labels are known; without --labels TotalSegmentator finds them)"
fluoro segment-ct "$out/phantom/scans" --labels "$out/phantom/labels" -o "$out/ct" --resume

step "3/8  frontal X-rays with a mask for every structure"
fluoro render "$out/ct" --views 36 --size 256 --random-share 0 \
  --view chest_pa --view chest_ap --view abdomen_ap --view pelvis_ap -o "$out/views" --resume

step "4/8  words for every structure"
fluoro describe -o "$out/descriptions" --resume

step "5/8  shards, split by body"
fluoro pack "$out/views" --descriptions "$out/descriptions" --size 128 --val 0.09 --test 0.09 -o "$out/shards" --resume

step "6/8  training: words first, then masks"
fluoro train "$out/shards" --preset tiny --gpus 2 --device cpu \
  --steps 300 --prompts 2 -o "$out/run" --resume

step "7/8  scores on a body that training never saw"
fluoro eval "$out/run" "$out/shards" --limit 12 --prompts text,text+points,presence \
  --clicks 1 --noc 0 -o "$out/metrics" --resume

step "8/8  one new X-ray, one phrase, one mask"
fluoro phantom "$out/patient/phantom" --seed 2026 --spacing 3 --resume
fluoro segment-ct "$out/patient/phantom/scans" --labels "$out/patient/phantom/labels" -o "$out/patient/ct" --resume
fluoro render "$out/patient/ct" --view chest_pa --views 1 -o "$out/patient/views" --resume
image=$(find "$out/patient/views/images" -name '*.png' | head -n 1)
prediction=$(fluoro predict "$image" "left lung" --model "$out/run" -o "$out/prediction" --overwrite)

printf '\noverlay:    %s\nreport:     %s\ncheckpoint: %s\n' \
  "$prediction/overlay.png" "$out/metrics/report.html" "$out/run/best"
