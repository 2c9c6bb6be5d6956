#!/usr/bin/env bash
# The built-in checkpoint, from three bodies and our own phantoms: simulated X-rays, words, shards, training, scores.
# Interrupted? The same command continues. Timed on two CPU cores beside other work, with LEFT_OUT=abdomen: bodies 8
# minutes, 2,982 views 23, shards 4, words 8, training 42 for 1,400 steps and 23 for 400 (idle: 27 and 16 images a
# second); 2.8 GB of disk.
#
#   WHOLE_BODY  labels.nii.gz, body.nii.gz and labels.json of a whole-body label phantom (HU are drawn: phantom_hu.py)
#   CHEST, ABDOMEN  ct.nii.gz and seg.nii.gz (with labels.json) of one labelled CT each
#   REAL        optional: real images with masks (images/, masks/ID/STRUCTURE.png), to measure on and never to train on
#
#   FIRST  optional: more options of the first training run, such as `--init model.safetensors` to go on from weights
#   SEED   another one draws other tissues, phantoms, deformations and views, and trains in another order
#   ALSO   optional: the folder of an earlier run with another seed, whose views are trained on as well
#   LEFT_OUT  optional: chest or abdomen, the CT that is not trained on but measured on: how well does another body do?
#
# Usage: [FIRST="--init model.safetensors"] [FIRST_STEPS=2000] [STEPS=600] [SEED=1] [ALSO=folder] [DEVICE=cpu] \
#          [PRECISION=bf16] [REAL=folder] [LEFT_OUT=abdomen] examples/train_builtin.sh WHOLE_BODY CHEST ABDOMEN [FOLDER]
set -euo pipefail
usage="usage: train_builtin.sh WHOLE_BODY CHEST ABDOMEN [FOLDER]"
whole_body=${1:?$usage} chest=${2:?$usage} abdomen=${3:?$usage}
out=${4:-builtin}
seed=${SEED:-1}
left_out=${LEFT_OUT:-}
case "$left_out" in "" | chest | abdomen) ;; *) echo "LEFT_OUT is chest or abdomen, not $left_out" >&2; exit 2 ;; esac
export OMP_WAIT_POLICY=PASSIVE
here=$(dirname "$0")
began=$SECONDS

step() { printf '\n== %s  (%s)\n' "$*" "$(date +%T)" >&2; }

step "1/6  bodies: five whole ones with tissues of their own, two real CTs, fourteen phantoms"
python "$here/phantom_hu.py" "$whole_body"/labels.nii.gz "$whole_body"/body.nii.gz "$whole_body"/labels.json \
  "$out/whole" --count 5 --seed $((seed - 1))
fluoro segment-ct "$out/whole/scans" --labels "$out/whole/labels" -o "$out/ct_whole" --resume
fluoro segment-ct "$chest/ct.nii.gz" --labels "$chest/seg.nii.gz" -o "$out/ct_chest" --resume
fluoro segment-ct "$abdomen/ct.nii.gz" --labels "$abdomen/seg.nii.gz" -o "$out/ct_abdomen" --resume
fluoro phantom "$out/phantoms" --count 14 --spacing 3 --region body --seed $((seed + 76)) --resume
fluoro segment-ct "$out/phantoms/scans" --labels "$out/phantoms/labels" -o "$out/ct_phantoms" --resume

step "2/6  views of bodies that are deformed in turn; more than a quarter are frontal chests"
render() {  # NAME CASES VIEWS DEFORMED NUMBER ...
  if [ "$2" = "ct_$left_out" ]; then return; fi
  fluoro render "$out/$2" --views "$3" --augment-anatomy "$4" --seed $((10 * seed + $5)) --tools-per-view 0-2 \
    "${@:6}" --size 256 --integrals --integrals-size 192 -o "$out/views/$1" --resume
}
frontal=(--view chest_pa --view chest_ap --view chest_supine_portable)
any=(--random-share 0.25)
lines=(--tools airway_tubes --tools gastric_tubes --tools venous_lines --tools cardiac_devices --tools chest_tube)
render chest_frontal ct_chest 300 9 1 "${frontal[@]}"
render whole_frontal ct_whole 50 4 2 "${frontal[@]}"
render whole_any ct_whole 240 6 3 "${any[@]}"
render phantoms_any ct_phantoms 40 1 4 "${any[@]}"
render phantoms_frontal ct_phantoms 8 1 5 "${frontal[@]}"
render abdomen_any ct_abdomen 200 5 6 "${any[@]}"
render chest_any ct_chest 120 3 7 "${any[@]}"
render chest_lines ct_chest 240 7 8 "${frontal[@]}" "${lines[@]}" --tools-per-view 1-3
render whole_lines ct_whole 40 3 9 "${frontal[@]}" "${lines[@]}" --tools-per-view 1-3
if [ -n "$left_out" ]; then  # as it is: not deformed
  fluoro render "$out/ct_$left_out" --views 84 --seed $((10 * seed)) --tools-per-view 0-2 "${any[@]}" --size 256 \
    -o "$out/left_out/views" --resume
fi

step "3/6  shards at 256 px: one whole body and two phantoms held out for testing, one phantom for choosing"
fluoro describe -o "$out/descriptions" --resume
printf '%s\n' body_04 phantom_0012 phantom_0013 > "$out/test_cases.txt"
printf '%s\n' phantom_0011 > "$out/val_cases.txt"
fluoro pack "$out"/views/* ${ALSO:+"$ALSO"/views/*} --descriptions "$out/descriptions" --size 256 \
  --val "$out/val_cases.txt" --test "$out/test_cases.txt" -o "$out/shards" --resume
if [ -n "$left_out" ]; then
  fluoro pack "$out/left_out/views" --descriptions "$out/descriptions" --size 256 --val 0 --test 1 \
    -o "$out/left_out/shards" --resume
fi

step "4/6  words, then masks"
fluoro words --preset small -o "$out/words" --resume
train() {
  fluoro train "$out/shards" --words "$out/words" --preset small --batch 32 --gpus 2 ${DEVICE:+--device "$DEVICE"} \
    ${PRECISION:+--precision "$PRECISION"} "$@" --resume
}
# what words mean, without clicks, which sees more images in the same time; then everything
# shellcheck disable=SC2086
train --prompts 0 --steps "${FIRST_STEPS:-2000}" --seed "$seed" ${FIRST:-} -o "$out/run_words"
train --prompts 2 --steps "${STEPS:-600}" --seed "$((seed + 1))" --init "$out/run_words/last" -o "$out/run"

step "5/6  scores: on simulated bodies never trained on, and on real images if REAL names a folder of them"
fluoro eval "$out/run" "$out/shards" --split test --limit 84 --prompts text,text+points,presence --clicks 3 --noc 0 \
  -o "$out/simulated" --resume
if [ -n "$left_out" ]; then
  fluoro eval "$out/run" "$out/left_out/shards" --prompts text,text+points,presence --clicks 3 --noc 0 \
    -o "$out/left_out/scores" --resume
fi
if [ -n "${REAL:-}" ]; then
  absent=femur_left,femur_right,tibia_left,tibia_right,fibula_left,fibula_right,patella_left,patella_right,hip_left
  absent+=,hip_right,sacrum,urinary_bladder,prostate,vertebrae_L5,vertebrae_S1,metatarsal_left,tarsal_right
  absent+=,carpal_right,metacarpal_left,brain
  python "$here/probe_images.py" "$REAL" "$out/images_absent" --absent "$absent"
  python "$here/probe_images.py" "$REAL" "$out/images_negative" --negative
  fluoro eval "$out/run" "$REAL" --prompts text,text+points,paraphrases --clicks 8 --noc 0 -o "$out/real" --resume
  fluoro eval "$out/run" "$out/images_negative" --prompts text -o "$out/negative" --resume
  fluoro eval "$out/run" "$out/images_absent" --prompts presence -o "$out/absent" --resume
fi

step "6/6  done in $((SECONDS - began)) s, $(du -sh "$out" | cut -f1) on disk: the checkpoint is $out/run/best"
