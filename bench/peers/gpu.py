"""Times PyTorch where bench_gpu times ours: training steps and inference of ResNet-50, batch norms
frozen and not, and ViT-S/16, with batches of 112 images of 224 pixels that come as bytes, in TF32 and
under autocast to bfloat16, channels last, compiled; one JSON line each.

usage: gpu.py [--device cpu] [--batch N] [--size N] [--eager] [--seconds N]   (needs PyTorch and
torchvision; after --seconds, 600, nothing more is begun: compiling takes most of the time)"""
import argparse
import json
import sys
import time
import traceback

import torch
import torchvision

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cuda")
parser.add_argument("--batch", type=int, default=112)
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--eager", action="store_true", help="without torch.compile")
parser.add_argument("--seconds", type=float, default=600)
options = parser.parse_args()
started = time.perf_counter()
device = torch.device(options.device)
on_card = device.type == "cuda"
MEAN = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1) * 255
STD = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1) * 255


def resnet50(frozen):
    model = torchvision.models.resnet50(weights=None)
    model.fc = torch.nn.Linear(model.fc.in_features, 128)
    model.to(device, memory_format=torch.channels_last).train()
    if frozen:  # running statistics; weights and biases learn
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    return model


def vits16():
    model = torchvision.models.VisionTransformer(
        image_size=options.size, patch_size=16, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536, num_classes=128
    )
    return model.to(device).train()


def wait():
    if on_card:
        torch.cuda.synchronize()


def median(work, runs=10):
    for _ in range(3):
        work()
    wait()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return sorted(times)[runs // 2]


def measure(name, model, kind):
    pixels = torch.randint(0, 256, (options.batch, options.size, options.size, 3), dtype=torch.uint8)
    grad = torch.randn(options.batch, 128, device=device) * 1e-3
    if on_card:
        pixels = pixels.pin_memory()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-5, weight_decay=4e-4, fused=on_card)

    def network(x):
        x = (x.permute(0, 3, 1, 2).float() - MEAN) / STD
        with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16"):
            y = model(x)
        return torch.nn.functional.normalize(y.float())

    run = network if options.eager else torch.compile(network)

    def step():
        y = run(pixels.to(device, non_blocking=True))
        y.backward(grad)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def embed():
        with torch.no_grad():
            run(pixels.to(device, non_blocking=True)).cpu()

    torch._dynamo.reset()  # which compiles a function for a few models only
    for what, work in [("step", step), ("embed", embed)]:
        if time.perf_counter() - started > options.seconds:
            return
        if what == "embed":
            model.eval()
        value = options.batch / median(work)
        print(
            json.dumps(
                {
                    "bench": "gpu_pytorch",
                    "case": f"{name}_{kind}_b{options.batch}_{what}",
                    "value": float(f"{value:.6g}"),
                    "unit": "images/s",
                    "pytorch": torch.__version__,
                }
            ),
            flush=True,
        )


torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.allow_tf32 = True
MODELS = {
    "resnet50_frozen_normalize": lambda: resnet50(True),
    "resnet50_normalize": lambda: resnet50(False),
    "vits16_normalize": vits16,
}
failed = False
for kind in ["bf16", "tf32"]:
    for name, make in MODELS.items():
        try:  # one that does not compile, or that there is no memory for, leaves the rest alone
            measure(name, make(), kind)
        except Exception:
            failed = True
            traceback.print_exc()
sys.exit(failed)
