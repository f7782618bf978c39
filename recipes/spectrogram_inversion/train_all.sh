#!/bin/sh
# Trains the three operating points from nothing, in the runs that the packaged
# weights had (of which the first had an earlier loss: see the model cards),
# in about an hour and a half of two cores:
#
#     sh train_all.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# The one with look-ahead comes first, in two runs; the others start from it.
# An interrupted script goes on where it was.
set -eu
data=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"
output=${2:-results}
export OMP_NUM_THREADS=1

train() {
    folder=$1
    shift
    python train.py ../../hparams/train.yaml --data_folder "$data" \
        --output_folder "$output/$folder" --device=cpu --noprogressbar \
        --ckpt_interval_minutes=4 "$@"
}

again() {
    train "$@" --lr_muon 0.03 --lr 0.002 --derivative_steps 0 \
        --number_of_epochs 10
}

long='--rollout_frames 64 --rollouts 4'
train first $long
again latency1 --warm_start "$output/first/pretrained" --max_updates 9000 $long
again paired --warm_start "$output/latency1/pretrained" --max_updates 6000 \
    --paired True $long &
other=$!
again latency0-long --warm_start "$output/latency1/pretrained" \
    --max_updates 6000 --lookahead 0 $long
# Short rollouts cost a quarter of the time, and do as well or better.
again latency0 --warm_start "$output/latency0-long/pretrained" \
    --max_updates 7000 --lookahead 0 --rollout_frames 16 --rollouts 16
wait "$other"
python evaluate.py --data_folder "$data" --griffin_lim 32 100 \
    "$output/latency1/pretrained" "$output/latency0/pretrained" \
    "$output/paired/pretrained"
