#!/bin/sh
# Trains the three operating points from nothing, as the packaged weights were
# made, and prints what they have on the test recordings:
#
#     sh train_all.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# First without refinement: the one with look-ahead, and from it the paired one
# and the one without look-ahead. Then with it, each from its like; look-ahead
# with an answer for the frame ahead has the layers of the paired network.
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

from() {
    start=$1
    name=$2
    shift 2
    train "$name" --warm_start "$output/plain/$start/pretrained" \
        --derivative_steps 0 "$@"
}

train plain/latency1 --max_updates 30000
from latency1 plain/latency0 --lookahead 0 --max_updates 20000 &
from latency1 plain/paired --paired True --max_updates 20000
wait
from paired latency1 --provisional True --refinements 2 \
    --max_updates 30000 &
from paired paired --paired True --refinements 2 --max_updates 20000
from latency0 latency0 --lookahead 0 --refinements 2 --max_updates 20000
wait
python evaluate.py --data_folder "$data" \
    "$output/latency0/pretrained" "$output/latency1/pretrained" \
    "$output/paired/pretrained" --griffin_lim 32 100
