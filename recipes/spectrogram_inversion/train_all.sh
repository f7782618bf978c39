#!/bin/sh
# Trains the three operating points from nothing, as the packaged weights were,
# in about 75 minutes of two cores:
#
#     sh train_all.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# The one with look-ahead comes first, in two runs; the others start from the
# first and from the second. An interrupted script goes on where it was.
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

train first
train latency0 --lookahead 0 --warm_start "$output/first/pretrained" \
    --max_updates 3600 &
other=$!
train latency1 --warm_start "$output/first/pretrained" \
    --lr_muon 0.03 --lr 0.002 --derivative_steps 0 \
    --number_of_epochs 10 --max_updates 9000
wait "$other"
train paired --paired True --warm_start "$output/latency1/pretrained" \
    --lr_muon 0.03 --lr 0.002 --derivative_steps 0 \
    --number_of_epochs 10 --max_updates 6000
python evaluate.py --data_folder "$data" --griffin_lim 32 100 \
    "$output/latency1/pretrained" "$output/latency0/pretrained" \
    "$output/paired/pretrained"
