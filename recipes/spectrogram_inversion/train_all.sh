#!/bin/sh
# Trains the three operating points from nothing, as the packaged weights were
# made, and prints what they have on the test recordings:
#
#     sh train_all.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# First without refinement: the one with look-ahead, and from it the paired one
# and the one without look-ahead, which stays so. Then, from the paired one,
# the one with look-ahead again, with an answer for the frame ahead, and the
# paired one at a low rate, through two iterations; three were better still.
# An interrupted script goes on where it was.
set -eu
data=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"
output=${2:-results}
export OMP_NUM_THREADS=1
rate='--lr_muon 0.03 --lr 0.002'

train() {
    folder=$1
    shift
    python train.py ../../hparams/train.yaml --data_folder "$data" \
        --output_folder "$output/$folder" --device=cpu --noprogressbar \
        --ckpt_interval_minutes=4 --number_of_epochs 10 --skip_test True \
        $rate "$@"
}

from() {
    start=$1
    name=$2
    shift 2
    train "$name" --warm_start "$output/plain/$start/pretrained" \
        --derivative_steps 0 "$@"
}

train plain/latency1 --max_updates 30000
from latency1 latency0 --lookahead 0 --max_updates 20000 &
from latency1 plain/paired --paired True --max_updates 20000
from paired latency1 --provisional True --refinements 2 --max_updates 30000 &
rate='--lr_muon 0.005 --lr 0.0005'
from paired paired --paired True --refinements 2 --max_updates 14000
wait
python evaluate.py --data_folder "$data" \
    "$output/latency0/pretrained" --griffin_lim 32 100
python evaluate.py --data_folder "$data" --refinements 3 \
    "$output/latency1/pretrained" "$output/paired/pretrained"
