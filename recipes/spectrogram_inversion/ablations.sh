#!/bin/sh
# Trains all rows of the table of ablations in NOTES.md, from nothing, and prints
# what each has on the validation recordings:
#
#     sh ablations.sh DATA_FOLDER [OUTPUT_FOLDER]
#
# In half an hour, beside two other runs on two cores. What has been trained is
# not trained again.
set -eu
data=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
recipe=$(cd "$(dirname "$0")" && pwd)
output=${2:-$recipe/results/ablations}
mkdir -p "$output"
output=$(cd "$output" && pwd)
cd "$recipe"
export OMP_NUM_THREADS=1

row() {
    name=$1
    shift
    log="$output/$name/train_log.txt"
    [ -f "$log" ] || python train.py ../../hparams/train.yaml \
        --data_folder "$data" --output_folder "$output/$name" --device=cpu \
        --noprogressbar --max_updates 400 --skip_test True "$@" \
        > "$output/$name.log" 2>&1 || { tail "$output/$name.log"; exit 1; }
    printf '%-28s %s\n' "$name" "$(sed 's/.*valid pesq/valid pesq/' "$log")"
}

row as-it-is
row no-confidences --confidences False
row no-prior --prior False
row derivatives-only --derivative_steps 400
row no-look-ahead --lookahead 0
row paired --paired True
row refined --refinements 3
row provisional-refined --provisional True --refinements 3
row provisional-refined-twice --provisional True --refinements 6
row provisional-again-refined --provisional True --again True --refinements 3
row paired-refined --paired True --refinements 3
row paired-again-refined --paired True --again True --refinements 3
row bins-alike --convergence_density 0 --compressed_density 0
row augmented --augment True
row rollouts-of-4 --rollout_frames 4 --rollouts 64
row rollouts-of-64 --rollout_frames 64 --rollouts 4
row rollouts-of-128 --rollout_frames 128 --rollouts 2
row 3889-parameters --channels 11
row 31462-parameters --channels 32
row 128251-parameters --channels 65
