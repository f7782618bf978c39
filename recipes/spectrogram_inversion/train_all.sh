#!/bin/sh
# Trains both networks, three operating points, from nothing, side by side, and
# prints what they have on the test recordings:
#
#     sh train_all.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# One serves with a hop of look-ahead and without, the other takes two frames a
# pass. An interrupted script goes on where it was.
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

train single --provisional True --refinements 3 --max_updates 9000 &
train paired --paired True --again True --refinements 4 --max_updates 10000
wait
python evaluate.py "$output/single/pretrained" "$output/paired/pretrained" \
    --data_folder "$data" --griffin_lim 32 100
