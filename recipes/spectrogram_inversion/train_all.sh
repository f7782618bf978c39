#!/bin/sh
# Trains the three operating points from nothing, as the packaged weights were
# made, and prints what they have on the test recordings:
#
#     sh train_all.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# The one with look-ahead comes first; the others start from it, side by side.
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
        --ckpt_interval_minutes=4 --number_of_epochs 10 --skip_test True \
        --lr_muon 0.03 --lr 0.002 "$@"
}

train latency1 --max_updates 30000
again='--derivative_steps 0 --max_updates 20000'
train paired --warm_start "$output/latency1/pretrained" --paired True $again &
other=$!
train latency0 --warm_start "$output/latency1/pretrained" --lookahead 0 $again
wait "$other"
python evaluate.py --data_folder "$data" \
    "$output/latency0/pretrained" "$output/latency1/pretrained" \
    "$output/paired/pretrained" --griffin_lim 32 100
