#!/usr/bin/env bash
# make demo: trains ResNet-18 from scratch on the bundled emoji, 100 classes to train on and 100
# unseen ones to retrieve, and says where everything is. DEMO_EPOCHS=2 makes it short.
# docs/performance/recipes.md compares it with other recipes.
set -eu
dml=$1
"$dml" train --dataset emoji200 --source_path data --arch resnet18_normalize --not_pretrained \
    --image_size 40 --transforms "random_resized_crop(scale=0.25..1) flip
        grayscale(p=0.3) color_jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)" \
    --loss multisimilarity --bs 56 --samples_per_class 4 --lr 0.001 --scheduler cosine \
    --n_epochs "${DEMO_EPOCHS:-42}" --eval_every 6 --kernels 2 --seed 1 --no_train_metrics \
    --evaluation_metrics e_recall@1 e_recall@2 e_recall@4 nmi mAP@R \
    --project demo --group demo --save_path Training_Results
