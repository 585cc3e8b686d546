"""Trains the vision tower on crowded scenes: every patch says what it shows and where.

    python train_encoder.py --scenes cache/crowded cache/plain --out runs/encoder
"""
import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
import torch.nn.functional as F

from encoder import Encoder, Heads, VisionConfig, normalise
from optimizer import Both
from world import BACKGROUNDS, GRID, NO_CLASS, PATCHES, load

FLIPPED_PLACE = torch.tensor([2, 1, 0, 5, 4, 3, 8, 7, 6])


class Source:
    def __init__(self, folder, limit=None):
        self.pixels, self.labels, scenes = load(folder)
        self.background = np.array([BACKGROUNDS.index(s["background"]) for s in scenes])
        self.count = min(limit or len(scenes), len(scenes))

    def batch(self, rng, size):
        at = rng.integers(0, self.count, size)
        return self.pixels[at], self.labels[at], self.background[at]


def mixed(parts):
    pixels, labels, background = (torch.from_numpy(np.concatenate(p)) for p in zip(*parts))
    return pixels, labels.long(), background


def flip(pixels, labels):
    """Mirrors left and right."""
    labels = labels.view(-1, 6, GRID, GRID).flip(-1).reshape(-1, 6, PATCHES).clone()
    labels[:, 3] = -labels[:, 3]
    place = labels[:, 2]
    labels[:, 2] = torch.where(place >= 0, FLIPPED_PLACE[place.clamp(min=0)], place)
    return pixels.flip(2), labels


def losses(out, labels, background):
    cls, color, place, dx, dy, centre = labels.unbind(1)
    on, known = (cls >= 0) & (cls < NO_CLASS), cls >= 0
    weight = torch.ones(NO_CLASS + 1)
    weight[NO_CLASS] = 0.2
    index = torch.arange(PATCHES).expand(cls.shape)
    behind = background[:, None].expand(cls.shape)
    bare = cls == NO_CLASS
    return dict(
        cls=F.cross_entropy(out["cls"][known], cls[known], weight=weight),
        color=F.cross_entropy(out["color"][on], color[on]),
        place=F.cross_entropy(out["place"][on], place[on]),
        offset=F.smooth_l1_loss(out["offset"][on], torch.stack([dx[on], dy[on]], -1) / 16),
        centre=F.binary_cross_entropy_with_logits(out["centre"][..., 0], centre.float(), pos_weight=torch.tensor(3.0)),
        background=F.cross_entropy(out["background"][bare], behind[bare]),
        row=F.cross_entropy(out["row"].flatten(0, 1), (index // GRID).flatten()),
        column=F.cross_entropy(out["column"].flatten(0, 1), (index % GRID).flatten()),
    )


WEIGHTS = dict(cls=1.0, color=0.5, place=0.3, offset=0.2, centre=0.5, background=0.3, row=0.1, column=0.1)


@torch.no_grad()
def evaluate(model, heads, source, count=256):
    right = dict(cls=[], color=[], place=[], bare=[], background=[], centre=[])
    for start in range(0, count, 64):
        at = np.arange(start, min(start + 64, count))
        out = heads(model(normalise(torch.from_numpy(source.pixels[at]))))
        cls, color, place, _, _, centre = torch.from_numpy(source.labels[at]).long().unbind(1)
        on, bare = (cls >= 0) & (cls < NO_CLASS), cls == NO_CLASS
        said = {k: v.argmax(-1) for k, v in out.items()}
        right["cls"].append((said["cls"] == cls)[on])
        right["color"].append((said["color"] == color)[on])
        right["place"].append((said["place"] == place)[on])
        right["bare"].append((said["cls"] == cls)[bare])
        behind = torch.from_numpy(source.background[at])[:, None].expand(cls.shape)
        right["background"].append((said["background"] == behind)[bare])
        right["centre"].append(((out["centre"][..., 0] > 0).long() == centre)[centre == 1])
    return {k: round(torch.cat(v).float().mean().item(), 4) for k, v in right.items()}


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--scenes", nargs="+", required=True, help="folders; three quarters of a batch come from the first")
    args.add_argument("--heldout", nargs="+", required=True)
    args.add_argument("--out", type=Path, required=True)
    args.add_argument("--steps", type=int, default=2200)
    args.add_argument("--batch", type=int, default=32)
    args.add_argument("--muon-lr", type=float, default=0.02)
    args.add_argument("--adam-lr", type=float, default=3e-3)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.out.mkdir(parents=True, exist_ok=True)
    model, heads = Encoder(), Heads(VisionConfig.hidden_size)
    named = list(model.named_parameters()) + [("heads." + n, p) for n, p in heads.named_parameters()]
    optimizer = Both(named, args.muon_lr, args.adam_lr, lambda n: "encoder.layers" in n)
    step, checkpoint = 0, args.out / "last.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"]), heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    sources, heldout = [Source(f) for f in args.scenes], [Source(f) for f in args.heldout]
    shares = [args.batch] if len(sources) == 1 else [args.batch - args.batch // 4 * (len(sources) - 1)] + [args.batch // 4] * (len(sources) - 1)
    log = open(args.out / "curve.csv", "a", newline="")
    table = csv.writer(log)
    if step == 0:
        right = ["cls", "color", "place", "bare", "background", "centre"]
        table.writerow(["step", *(f"loss_{k}" for k in WEIGHTS), *(f"{k}_{Path(f).name}" for f in args.heldout for k in right)])
    mean, began = {}, time.time()
    bar = tqdm(total=args.steps, initial=step, unit="step", mininterval=5)
    while step < args.steps:
        rng = np.random.default_rng([1, step])
        pixels, labels, background = mixed([s.batch(rng, n) for s, n in zip(sources, shares)])
        half = args.batch // 2
        order = torch.from_numpy(rng.permutation(args.batch))
        pixels, labels, background = pixels[order], labels[order], background[order]
        turned = flip(pixels[:half], labels[:half])
        pixels, labels = torch.cat([turned[0], pixels[half:]]), torch.cat([turned[1], labels[half:]])
        parts = losses(heads(model(normalise(pixels))), labels, background)
        optimizer.zero_grad()
        sum(WEIGHTS[k] * v for k, v in parts.items()).backward()
        rise, fall = min(1, (step + 1) / 50), min(1, (args.steps - step) / (0.6 * args.steps))
        optimizer.step(rise * fall)
        step += 1
        bar.update()
        for k, v in parts.items():
            mean[k] = 0.95 * mean.get(k, v.item()) + 0.05 * v.item()
        if step % 50 == 0 or step == args.steps:
            speed = (time.time() - began) / 50
            began = time.time()
            print(step, f"{speed:.2f} s", {k: round(v, 3) for k, v in mean.items()}, flush=True)
        if step % 250 == 0 or step == args.steps:
            figures = [evaluate(model, heads, s) for s in heldout]
            print(step, *figures, flush=True)
            table.writerow([step, *(round(v, 4) for v in mean.values()), *(v for f in figures for v in f.values())])
            log.flush()
            torch.save(dict(model=model.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(), step=step), checkpoint)


if __name__ == "__main__":
    main()
