#!/bin/sh
# Trains the three operating points from nothing, as the packaged weights were:
#
#     sh train_all.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# The one with look-ahead comes first, in two runs; the other two start from
# it, side by side. An interrupted script goes on where it was.
set -eu
cd "$(dirname "$0")"
data=$1
output=${2:-results}
export OMP_NUM_THREADS=1

train() {
    folder=$1
    shift
    python train.py ../../hparams/train.yaml --data_folder "$data" \
        --output_folder "$output/$folder" --device=cpu --noprogressbar \
        --ckpt_interval_minutes=4 "$@"
}

train first
train latency1 --warm_start "$output/first/pretrained" \
    --lr_muon 0.03 --lr 0.002 --derivative_steps 0 \
    --number_of_epochs 10 --max_updates 9000
again="--warm_start $output/latency1/pretrained --lr_muon 0.03 --lr 0.002
    --derivative_steps 0 --number_of_epochs 10 --max_updates 6000"
# shellcheck disable=SC2086
train latency0 --lookahead 0 $again &
first=$!
# shellcheck disable=SC2086
train paired --paired True $again
wait "$first"
python evaluate.py --data_folder "$data" --griffin_lim 32 100 \
    "$output/latency1/pretrained" "$output/latency0/pretrained" \
    "$output/paired/pretrained"
