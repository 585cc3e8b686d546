#!/usr/bin/env python3
"""Times transformers on a folder that `cargo bench --bench peer -- --device gpu` wrote; called by it. One JSON line.

    scripts/peer_device.py FOLDER INPUTS [--device cuda] [--dtype float16] [--new 32] [--passes 4]

INPUTS has the token ids and the size of the picture. Eager attention; every layer's is asked for, and kept on the device:
the peer keeps full squares of the prompt and of every step, Sightline reads the answer rows back. `plain_tok_s` is without.
The first pass does not count. Memory is `peak_device_mb`, on CUDA only.
"""
import argparse
import json
import time

import torch
import transformers

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("folder")
args.add_argument("inputs")
args.add_argument("--device", default="cuda")
args.add_argument("--dtype", default="float16", choices=["float16", "float32"])
args.add_argument("--new", type=int, default=32)
args.add_argument("--passes", type=int, default=4)
args = args.parse_args()
inputs = json.load(open(args.inputs))
dtype = getattr(torch, args.dtype)


def clock():
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def pixels(config):
    """Random pixels as the model's own processor would lay them out, and what goes with them."""
    width, height = inputs["picture"]
    like = {"device": args.device, "dtype": dtype}
    if config.model_type == "qwen2_5_vl":
        vision = config.vision_config
        rows, cols = height // vision.patch_size, width // vision.patch_size
        size = 3 * vision.temporal_patch_size * vision.patch_size**2
        grid = torch.tensor([[1, rows, cols]], device=args.device)
        return torch.randn(rows * cols, size, **like), {"image_grid_thw": grid}
    views = (1, 1) if config.model_type == "idefics3" else (1,)
    return torch.randn(*views, 3, height, width, **like), {}


model = transformers.AutoModelForImageTextToText.from_pretrained(args.folder, dtype=dtype, attn_implementation="eager")
model = model.eval().to(args.device)
values, more = pixels(model.config)
ids = torch.tensor([inputs["ids"]], device=args.device)
image = ids == inputs["image_token"]
if model.config.model_type == "qwen2_5_vl":
    more["mm_token_type_ids"] = image.int()
best = {"vision_s": float("inf"), "prefill_s": float("inf"), "decode_tok_s": 0.0, "plain_tok_s": 0.0}
for number in range(args.passes):
    for key, keep in (("decode_tok_s", True), ("plain_tok_s", False)):
        with torch.no_grad():
            start = clock()
            if model.config.model_type == "qwen2_5_vl":
                model.model.get_image_features(values, more["image_grid_thw"])
            else:
                model.model.get_image_features(values)
            seen = clock()
            out = model(input_ids=ids, pixel_values=values, use_cache=True, output_attentions=keep, logits_to_keep=1, **more)
            filled = clock()
            kept = [out.attentions]
            for _ in range(args.new):
                step = out.logits[:, -1:].argmax(-1)
                out = model(input_ids=step, past_key_values=out.past_key_values, use_cache=True, output_attentions=keep,
                            logits_to_keep=1)
                kept.append(out.attentions)
            done = clock()
        if keep:
            assert len(kept) == args.new + 1 and all(len(k) == model.config.get_text_config().num_hidden_layers for k in kept)
        if number > 0:
            best["vision_s"] = min(best["vision_s"], seen - start)
            if keep:  # the whole pass sees the picture once more
                best["prefill_s"] = min(best["prefill_s"], filled - seen - (seen - start))
            best[key] = max(best[key], args.new / (done - filled))
        del kept, out
if args.device == "cuda":
    best["peak_device_mb"] = torch.cuda.max_memory_allocated() / 1e6
print(json.dumps(best | {"peer": f"transformers {transformers.__version__}, torch {torch.__version__}"}))
