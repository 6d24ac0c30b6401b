"""Times Pillow where bench_loader times ours: a JPEG file decoded, a random part of it scaled to 224 x
224 and flipped, on one thread; one JSON line for each interpolation.

usage: pillow_loader.py [ROUNDS]   (needs Pillow)

The photographs are tests/golden/transforms' (or $DML_GOLDEN's). Boxes are drawn as torchvision's
RandomResizedCrop draws them."""
import json
import math
import os
import random
import sys
import time

from PIL import Image

folder = os.environ.get("DML_GOLDEN") or os.path.join(os.path.dirname(__file__), "../../tests/golden")
paths = [os.path.join(folder, "transforms", name + ".jpg") for name in ("astronaut", "chelsea", "coffee")]


def box_of(width, height):
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2


def load(path, interpolation):
    image = Image.open(path).convert("RGB")
    image = image.crop(box_of(*image.size)).resize((224, 224), interpolation)
    if random.random() < 0.5:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    return image.tobytes()


rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
for name in ("bilinear", "bicubic"):
    random.seed(0)
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        for i in range(300):
            load(paths[i % 3], getattr(Image, name.upper()))
        rates.append(300 / (time.process_time() - start))
    print(json.dumps({"bench": "peer_pillow", "case": f"training_{name}", "value": round(sorted(rates)[rounds // 2], 1),
                      "unit": "images/s of processor time"}), flush=True)
