#!/usr/bin/env bash
# make demo: trains ResNet-18 from scratch on the bundled emoji, 100 classes to train on and 100
# unseen ones to retrieve, and says where everything is. DEMO_EPOCHS=2 makes it short.
set -eu
dml=$1
"$dml" train --dataset emoji200 --source_path data --arch resnet18_normalize --not_pretrained \
    --image_size 64 --crop_area_min 0.25 --loss multisimilarity --bs 56 --samples_per_class 4 \
    --lr 0.001 --n_epochs "${DEMO_EPOCHS:-20}" --tau 13 17 --kernels 2 --seed 1 --no_train_metrics \
    --evaluation_metrics e_recall@1 e_recall@2 e_recall@4 nmi mAP@R \
    --project demo --group demo --save_path Training_Results
