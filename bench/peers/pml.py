"""Times the criteria of pytorch-metric-learning as bench_criteria times ours: forward and backward
of one batch of 128 dimensions, two samples of each class; one JSON line each.

usage: pml.py [CRITERION ...]   (needs PyTorch and pytorch-metric-learning)

On two threads, by the clock; with PEER_THREADS=1 on one, in processor time, which is what can be
compared on a shared machine."""
import json
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import torch
from pytorch_metric_learning import losses, miners

threads = int(os.environ.get("PEER_THREADS", "2"))
clock = time.process_time if threads == 1 else time.perf_counter
torch.set_num_threads(threads)
DIM = 128


def cases(classes):
    class_losses = {
        "proxynca": losses.ProxyNCALoss,
        "softmax": losses.NormalizedSoftmaxLoss,
        "arcface": losses.ArcFaceLoss,
        "cosface": losses.CosFaceLoss,
        "sphereface": losses.SphereFaceLoss,
        "large_margin_softmax": losses.LargeMarginSoftmaxLoss,
        "subcenter_arcface": losses.SubCenterArcFaceLoss,
        "proxyanchor": losses.ProxyAnchorLoss,
    }
    made = {name: (lambda k=kind: (k(num_classes=classes, embedding_size=DIM), None)) for name, kind in class_losses.items()}
    made["p2sgrad"] = lambda: (losses.P2SGradLoss(DIM, classes), None)
    made["softtriplet"] = lambda: (losses.SoftTripleLoss(classes, DIM, centers_per_class=2), None)
    made["manifold"] = lambda: (losses.ManifoldLoss(l=DIM, K=50), None)
    plain = {
        "npair": losses.NPairsLoss,
        "angular": losses.AngularLoss,
        "lifted": losses.GeneralizedLiftedStructureLoss,
        "lifted_original": losses.LiftedStructureLoss,
        "histogram": losses.HistogramLoss,
        "contrastive": losses.ContrastiveLoss,
        "snr": losses.SignalToNoiseRatioContrastiveLoss,
        "circle": losses.CircleLoss,
        "supcon": losses.SupConLoss,
        "ntxent": losses.NTXentLoss,
        "nca": losses.NCALoss,
        "fastap": losses.FastAPLoss,
        "smoothap": losses.SmoothAPLoss,
        "pnp": losses.PNPLoss,
        "ranked_list": lambda: losses.RankedListLoss(margin=1, Tn=10),
        "tuplet_margin": losses.TupletMarginLoss,
        "intra_pair_variance": losses.IntraPairVarianceLoss,
        "dynamic_soft_margin": losses.DynamicSoftMarginLoss,
        "tcm": losses.ThresholdConsistentMarginLoss,
        "instance": losses.InstanceLoss,
        "triplet": losses.TripletMarginLoss,
    }
    made.update({name: (lambda k=kind: (k(), None)) for name, kind in plain.items()})
    made["margin"] = lambda: (losses.MarginLoss(), miners.DistanceWeightedMiner())
    made["multisimilarity"] = lambda: (losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner())
    return made


def median_ms(step, limit=1.5):
    step()
    times, started = [], time.time()
    while len(times) < 3 or (time.time() - started < limit and len(times) < 200):
        before = clock()
        step()
        times.append(clock() - before)
    return sorted(times)[len(times) // 2] * 1e3


def main(names):
    for batch, classes in ((112, 100), (512, 11318)):
        torch.manual_seed(0)
        labels = torch.randperm(classes)[: batch // 2].repeat_interleave(2)
        data = torch.nn.functional.normalize(torch.randn(batch, DIM), dim=1)
        for name, make in cases(classes).items():
            if names and name not in names:
                continue
            loss, miner = make()

            def step():
                embeddings = data.clone().requires_grad_(True)
                for parameter in loss.parameters():
                    parameter.grad = None
                tuples = miner(embeddings, labels) if miner else None
                value = loss(embeddings, labels, tuples) if miner else loss(embeddings, labels)
                value.backward()

            try:
                value = median_ms(step)
            except Exception as error:
                print(name, batch, "fails:", str(error)[:100], file=sys.stderr, flush=True)
                continue
            case = f"{name}, batch {batch}, {classes} classes"
            print(json.dumps({"peer": "pml", "case": case, "value": value, "unit": "ms"}), flush=True)


main(sys.argv[1:])
