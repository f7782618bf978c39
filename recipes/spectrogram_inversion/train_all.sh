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
recipe=$(cd "$(dirname "$0")" && pwd)
output=${2:-$recipe/results}
mkdir -p "$output"
output=$(cd "$output" && pwd)
cd "$recipe"
export OMP_NUM_THREADS=1

train() {
    folder=$output/$1
    shift
    [ ! -d "$folder/pretrained" ] || exit 0 # it is done
    exec python train.py ../../hparams/train.yaml --data_folder "$data" \
        --output_folder "$folder" --device=cpu --noprogressbar \
        --number_of_epochs 10 --skip_test True --lr_muon 0.03 --lr 0.002 "$@"
}

train single --provisional True --refinements 3 --max_updates 30000 &
single=$!
train paired --paired True --again True --refinements 4 --max_updates 32000 &
paired=$!
# What runs in the background does not hear a Ctrl-C by itself.
trap 'kill $single $paired 2> /dev/null || :' EXIT
trap 'exit 130' INT TERM
failed=0
wait $single || failed=$?
wait $paired || failed=$?
[ $failed -eq 0 ] || exit $failed
python evaluate.py "$output/single/pretrained" "$output/paired/pretrained" \
    --data_folder "$data" --griffin_lim 32 100
