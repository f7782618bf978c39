#!/bin/sh
# Trains both networks, three operating points, from nothing, and prints what
# they have on the test recordings:
#
#     sh train_all.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# First without refinement: with look-ahead, and from that two frames a pass.
# Then, from the paired one and through the refinement, the one that serves
# with a hop of look-ahead and without, and the paired one again, with an
# answer for the last frame of the pass before.
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
from latency1 plain/paired --paired True --max_updates 20000
from paired single --provisional True --refinements 3 --max_updates 30000 &
from paired paired --paired True --again True --refinements 3 \
    --max_updates 30000
wait
python evaluate.py --data_folder "$data" --griffin_lim 32 100 \
    "$output/single/pretrained" "$output/paired/pretrained"
