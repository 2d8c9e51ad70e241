#!/usr/bin/env bash
# Fine-tuning under a Fisher mask, beside masks chosen otherwise, on CIFAR-10 by the recipe quick: in each
# variant 8 epochs of one learning rate's course, and from the mask on 2% of the weights. Prints a Markdown
# table of test accuracies, and takes about 40 s a variant and seed on two cores.
#
#   scripts/fine-tuning.sh [FOLDER]     FOLDER, which must not be there, defaults to runs/fine-tuning
#
# SEEDS, KEEP and DATA_DIR are taken from the environment; fishmask is the one on the PATH, or FISHMASK.
set -euo pipefail
folder=${1:-runs/fine-tuning}
fishmask=${FISHMASK:-fishmask}
keep=${KEEP:-0.02}
read -ra seeds <<<"${SEEDS:-0 1 2}"
data=(--data cifar10 --data-dir "${DATA_DIR:-data}")

[ ! -e "$folder" ] || {
    echo "fine-tuning.sh: $folder is there already; name another folder" >&2
    exit 1
}
mkdir -p "$folder"

# Trains by the recipe: the run's name, then flags.
train() {
    "$fishmask" train --recipe quick "${data[@]}" --run-dir "$folder/$1" "${@:2}" >"$folder/$1.txt"
}

# The two halves of quick's course: up to 0.2 at epoch 1.6, 0.125 after 4 epochs, and 0 after 8.
first=(--epochs 4 --peak-epoch 1.6 --set schedule.final=0.625)
second=(--epochs 4 --lr 0.125 --peak-epoch 0)

for seed in "${seeds[@]}"; do
    train "dense-$seed" --seed "$seed"
    train "start-$seed" --seed "$seed" --mask fisher --keep-ratio "$keep"
    train "warmup-$seed" --seed "$seed" --mask fisher --keep-ratio "$keep" --warmup-epochs 4
    train "pretrained-$seed" --seed "$seed" "${first[@]}"
    "$fishmask" mask "$folder/pretrained-$seed" --data-dir "${DATA_DIR:-data}" --keep-ratio "$keep" \
        --out "$folder/mask-$seed.safetensors" >"$folder/mask-$seed.txt"
    # Other images first than before, as in the epochs that follow.
    train "tuned-$seed" --seed $((seed + 100)) "${second[@]}" \
        --weights "$folder/pretrained-$seed/final.safetensors" --mask-file "$folder/mask-$seed.safetensors"
done

# A row: its heading, and the runs' name before the seed.
row() {
    local line="| $1 |" sum=0 accuracy
    for seed in "${seeds[@]}"; do
        accuracy=$(tail -n 1 "$folder/$2-$seed/metrics.jsonl" | sed 's/.*"test_accuracy":\([0-9.]*\).*/\1/')
        line+=$(printf ' %.2f |' "$accuracy")
        sum=$(awk "BEGIN { print $sum + $accuracy }")
    done
    echo "$line $(awk "BEGIN { printf \"%.2f\", $sum / ${#seeds[@]} }") |"
}

echo "| test accuracy in % $(printf '| seed %s ' "${seeds[@]}")| mean |"
echo "|---$(printf '|---%.0s' "${seeds[@]}")|---|"
row "dense, 8 epochs" dense
row "dense, 4 epochs" pretrained
row "mask at the start, 8 epochs under it" start
row "one run, its mask after 4 dense epochs (\`--warmup-epochs 4\`)" warmup
row "three commands: 4 dense epochs, \`mask\`, 4 epochs under it" tuned
