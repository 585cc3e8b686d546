"""Measures a checkpoint quickly: the same figures as evaluate.py, without transformers' generation.

    python measure.py runs/decoder/last.pt cache/test --count 1000 [--blank | --shuffle] [--json out.json]

Questions are packed and scored at once: a greedy answer is right exactly if every token of the right answer, its end
included, is the most likely one after those before it. Descriptions are decoded greedily.
"""
import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from decoder import Decoder, rotate
from encoder import Encoder, VisionConfig, normalise
from evaluate import DESCRIBE, classes_in, wilson
from questions import TYPES, Asked, pack
from text import EOS, SUFFIX, decode, encode
from world import load


@torch.no_grad()
def describe(decoder, features, limit=80):
    """Greedy descriptions of a batch of pictures, with cached keys and values."""
    b, prompt = len(features), encode(DESCRIBE) + SUFFIX
    x = torch.cat([decoder.prefix(features), decoder.embed_tokens(torch.tensor(prompt)).expand(b, -1, -1)], 1)
    start, cache, said = 0, [None] * len(decoder.layers), []
    done = torch.zeros(b, dtype=torch.bool)
    while len(said) < limit and not done.all():
        cos, sin = decoder.cos[start : start + x.shape[1]], decoder.sin[start : start + x.shape[1]]
        start += x.shape[1]
        for i, layer in enumerate(decoder.layers):
            a, n = layer.self_attn, layer.input_layernorm(x)
            q, k, v = rotate(a.split(a.q_proj(n)), cos, sin), rotate(a.split(a.k_proj(n)), cos, sin), a.split(a.v_proj(n))
            if cache[i]:
                k, v = torch.cat([cache[i][0], k], 2), torch.cat([cache[i][1], v], 2)
            cache[i] = (k, v)
            x = x + a.merge(F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        token = decoder.lm_head(decoder.norm(x[:, -1])).argmax(-1)
        done |= token == EOS
        said.append(torch.where(done, EOS, token))
        x = decoder.embed_tokens(token)[:, None]
    rows = torch.stack(said, 1).tolist()
    return [decode(row[: row.index(EOS)] if EOS in row else row) for row in rows]


@torch.no_grad()
def measure(encoder, decoder, pixels, scenes, see, batch=20):
    """see(i) is the picture shown with scene i. Gives the table that evaluate.py prints."""
    asked, kinds = Asked(scenes), [t for t in TYPES if t not in ("describe", "probe")]
    right, total, answers, lists = Counter(), Counter(), {t: Counter() for t in kinds}, Counter()
    for start in range(0, len(scenes), batch):
        at = range(start, min(start + batch, len(scenes)))
        rows = [[(t, *q) for t in kinds for q in asked.scenes[i].get(t, [])] for i in at]
        ids, positions, mask, targets = pack(rows)
        features = encoder(normalise(torch.from_numpy(np.stack([see(i) for i in at]))))
        hidden = decoder(features, ids, positions, mask)
        wrong = decoder.lm_head(hidden[targets[:, 0], targets[:, 1]]).argmax(-1) != targets[:, 2]
        failed = set(targets[wrong, 4].tolist())
        number = 0
        for row in rows:
            for t, _, answer in row:
                total[t] += 1
                right[t] += number not in failed
                answers[t][decode(answer)] += 1
                number += 1
        for i, said in zip(at, describe(decoder, features)):
            truth, named = Counter(o["class"] for o in scenes[i]["objects"]), classes_in(said)
            lists.update(hit=sum((truth & named).values()), truth=sum(truth.values()), named=sum(named.values()),
                         exact=encode(said) == encode(scenes[i]["description"]))
    table = {}
    for t in kinds:
        low, high = wilson(right[t], total[t])
        constant, n = answers[t].most_common(1)[0]
        table[t] = dict(accuracy=right[t] / total[t], low=low, high=high, n=total[t], constant=constant, constant_accuracy=n / total[t])
    table["describe"] = dict(precision=lists["hit"] / max(1, lists["named"]), recall=lists["hit"] / lists["truth"],
                             f1=2 * lists["hit"] / (lists["named"] + lists["truth"]), exact=lists["exact"] / len(scenes), n=len(scenes))
    return table


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("checkpoint"), args.add_argument("scenes")
    args.add_argument("--count", type=int, default=1000)
    args.add_argument("--blank", action="store_true", help="a grey picture instead of each scene's")
    args.add_argument("--shuffle", action="store_true", help="the next scene's picture instead of each scene's")
    args.add_argument("--json", type=Path)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    state = torch.load(args.checkpoint)
    encoder, decoder = Encoder().eval(), Decoder(VisionConfig.hidden_size).eval()
    encoder.load_state_dict(state["encoder"]), decoder.load_state_dict(state["decoder"])
    pixels, _, scenes = load(args.scenes)
    scenes = scenes[: args.count]
    grey = np.full_like(pixels[0], 128)
    see = (lambda i: grey) if args.blank else (lambda i: pixels[(i + 1) % len(scenes)]) if args.shuffle else (lambda i: pixels[i])
    table = measure(encoder, decoder, pixels, scenes, see)
    for t, row in table.items():
        if t != "describe":
            print(f"{t:11} {row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}] n={row['n']}  best constant: {row['constant']} {row['constant_accuracy']:.3f}")
    row = table["describe"]
    print(f"describe    objects: precision {row['precision']:.3f} recall {row['recall']:.3f} F1 {row['f1']:.3f}; whole text right {row['exact']:.3f} n={row['n']}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
