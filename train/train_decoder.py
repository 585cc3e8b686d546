"""Trains the projector and the decoder on packed questions; the vision tower stays as it is unless told otherwise.

    python train_decoder.py --encoder runs/encoder/last.pt --scenes cache/plain --heldout cache/heldout --out runs/decoder

A JSON file may be edited while it runs (--plan): {"mix": {...}, "most_objects": n, "rate": x}; it is read every 50
steps, so that the curriculum can follow the accuracy per type.
"""
import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
import torch.nn.functional as F

from decoder import Decoder
from encoder import Encoder, VisionConfig, normalise
from optimizer import Both
from questions import TYPES, Asked, pack
from text import PREFIX
from world import PATCHES, load

PLAN = dict(mix=dict(at=4, color=2, where=2, exists=2, left_of=0.3, above=0.3, count=0.5, background=0.5, describe=0.0),
            fewest_objects=1, most_objects=5, rate=1.0, budget=150, patches=144)


def is_hidden(name):
    return "layers" in name or "projector" in name


def adam_scale(name):
    return 3.0 if "embed_tokens" in name else 1.0


@torch.no_grad()
def evaluate(encoder, decoder, pixels, asked, count=192, batch=24):
    """Share of questions answered wholly right (greedy decoding gives the same: it is right exactly if every
    token is the most likely one after the right ones before it); for descriptions also the share of tokens."""
    right = {t: [] for t in TYPES}
    words = []
    for start in range(0, count, batch):
        at = range(start, min(start + batch, count))
        rows = [[(t, *q) for t in TYPES for q in asked.scenes[i].get(t, [])[: 1 if t == "describe" else None]] for i in at]
        ids, positions, mask, targets = pack(rows)
        hidden = decoder(encoder(normalise(torch.from_numpy(pixels[at.start:at.stop]))), ids, positions, mask)
        said = decoder.lm_head(hidden[targets[:, 0], targets[:, 1]]).argmax(-1) == targets[:, 2]
        whole = torch.ones(int(targets[-1, 4]) + 1, dtype=torch.bool)
        whole[targets[~said, 4]] = False
        kinds = torch.zeros_like(whole, dtype=torch.long)
        kinds[targets[:, 4]] = targets[:, 3]
        for k, t in enumerate(TYPES):
            right[t].append(whole[kinds == k])
        words.append(said[targets[:, 3] == TYPES.index("describe")])
    figures = {t: torch.cat(r).float().mean().item() for t, r in right.items()}
    figures["describe_words"] = torch.cat(words).float().mean().item()
    return {k: round(v, 4) for k, v in figures.items()}


def minutes_left(until):
    hour, minute = map(int, until.split(":"))
    now = time.localtime()
    return (hour - now.tm_hour) * 60 + minute - now.tm_min - now.tm_sec / 60


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--encoder", required=True)
    args.add_argument("--scenes", required=True)
    args.add_argument("--heldout", required=True)
    args.add_argument("--out", type=Path, required=True)
    args.add_argument("--plan", type=Path)
    args.add_argument("--steps", type=int, default=4000)
    args.add_argument("--decay", type=int, default=800, help="the rate falls to 0 over this many last steps")
    args.add_argument("--until", help="HH:MM: stop then, whatever the step; the rate falls over the last --decay-minutes")
    args.add_argument("--decay-minutes", type=float, default=25)
    args.add_argument("--batch", type=int, default=32)
    args.add_argument("--muon-lr", type=float, default=0.02)
    args.add_argument("--adam-lr", type=float, default=3e-3)
    args.add_argument("--encoder-lr", type=float, default=0.0, help="Muon's rate for the vision tower; 0 leaves it as it is")
    args.add_argument("--limit", type=int, help="use only this many scenes")
    args.add_argument("--every", type=int, default=200)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.out.mkdir(parents=True, exist_ok=True)
    encoder, decoder = Encoder(), Decoder(VisionConfig.hidden_size)
    encoder.load_state_dict(torch.load(args.encoder)["model"])
    pixels, _, scenes = load(args.scenes)
    asked = Asked(scenes[: args.limit])
    counts = np.array([len(s["objects"]) for s in scenes[: args.limit]])
    held_pixels, _, held_scenes = load(args.heldout)
    held = Asked(held_scenes[:400])
    step, seen, checkpoint = 0, 0, args.out / "last.pt"
    with torch.no_grad():
        decoder.projector.fit(encoder(normalise(torch.from_numpy(pixels[:200].copy()))))
    optimizer = Both(decoder.named_parameters(), args.muon_lr, args.adam_lr, is_hidden, adam_scale=adam_scale)
    tuned = None
    if args.encoder_lr:
        tuned = Both(encoder.named_parameters(), args.encoder_lr, args.encoder_lr * 0.05, lambda n: "encoder.layers" in n)
    if checkpoint.exists():
        state = torch.load(checkpoint)
        decoder.load_state_dict(state["decoder"]), encoder.load_state_dict(state["encoder"])
        optimizer.load_state_dict(state["optimizer"])
        step, seen = state["step"], state["seen"]
    log = open(args.out / "curve.csv", "a", newline="")
    table = csv.writer(log)
    if step == 0:
        table.writerow(["step", "pictures", "loss", *TYPES, "describe_words"])
    plan, running, began = dict(PLAN), None, time.time()
    per_type = {}
    stop = False
    bar = tqdm(total=args.steps, initial=step, unit="step", mininterval=5)
    while step < args.steps and not stop:
        if args.plan and args.plan.exists() and (step % 50 == 0 or running is None):
            try:
                plan = PLAN | json.loads(args.plan.read_text())
            except json.JSONDecodeError as error:
                print("plan ignored:", error)
        rng = np.random.default_rng([2, step])
        batch = plan.get("batch", args.batch)
        if step % 50 == 0 or running is None:
            usable = np.flatnonzero((counts <= plan["most_objects"]) & (counts >= plan["fewest_objects"]))
        at = rng.choice(usable, batch)
        rows = [asked.choose(i, plan["mix"], plan["budget"], rng) for i in at]
        ids, positions, mask, targets = pack(rows)
        with torch.set_grad_enabled(tuned is not None):
            features = encoder(normalise(torch.from_numpy(pixels[np.sort(at)][np.argsort(np.argsort(at))])))
        keep = None
        if plan["patches"] < PATCHES:
            some = np.sort(rng.choice(PATCHES, plan["patches"], replace=False)) + len(PREFIX)
            keep = torch.from_numpy(np.concatenate([np.arange(len(PREFIX)), some]))
        hidden = decoder(features, ids, positions, mask, keep)
        loss = F.cross_entropy(decoder.lm_head(hidden[targets[:, 0], targets[:, 1]]), targets[:, 2], reduction="none")
        mean = loss.mean()
        for part in filter(None, (optimizer, tuned)):
            part.zero_grad()
        mean.backward()
        factor = plan["rate"] * min(1, (step + 1) / 100) * min(1, (args.steps - step) / args.decay)
        if args.until:
            factor *= min(1, max(0, minutes_left(args.until) / args.decay_minutes))
            stop = minutes_left(args.until) <= 0
        for part in filter(None, (optimizer, tuned)):
            part.step(factor)
        step, seen = step + 1, seen + batch
        bar.update()
        running = mean.item() if running is None else 0.97 * running + 0.03 * mean.item()
        with torch.no_grad():
            for k, t in enumerate(TYPES):
                mine = loss[targets[:, 3] == k]
                if len(mine):
                    per_type[t] = 0.95 * per_type.get(t, mine.mean().item()) + 0.05 * mine.mean().item()
        if step % 50 == 0:
            speed, began = (time.time() - began) / 50, time.time()
            print(step, f"{speed:.2f} s  loss {running:.4f} ", {k: round(v, 3) for k, v in per_type.items()}, flush=True)
        if step % args.every == 0 or step == args.steps or stop:
            figures = evaluate(encoder, decoder, held_pixels, held)
            print(step, time.strftime("%H:%M"), figures, flush=True)
            table.writerow([step, seen, round(running, 4), *figures.values()])
            log.flush()
            torch.save(dict(decoder=decoder.state_dict(), encoder=encoder.state_dict(), optimizer=optimizer.state_dict(), step=step, seen=seen), checkpoint)
            began = time.time()


if __name__ == "__main__":
    main()
