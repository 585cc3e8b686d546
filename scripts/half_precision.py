"""What half precision costs transformers: KL(float32 || bfloat16) of the text after the image, and the
inputs it was measured on, for `cargo bench --bench peer` to measure ours on the same.

    python half_precision.py FOLDER OUTPUT.safetensors

FOLDER holds a model of SmolVLM-256M's shape. Prints one JSON line: {"mean": .., "largest": ..}, in nats.
"""

import json
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText


def main():
    folder, output = sys.argv[1:]
    random = torch.Generator().manual_seed(0)
    words = lambda n: torch.randint(100, 49000, (n,), generator=random).tolist()
    pixels = torch.rand(1, 1, 3, 512, 512, generator=random) * 2 - 1
    logprobs = []
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
        if not logprobs:
            image = model.config.image_token_id
            ids = torch.tensor([words(6) + [image] * 64 + words(28)])
        with torch.no_grad():
            seen = model.model.get_image_features(pixels.to(dtype), None, return_dict=True).pooler_output
            seen = torch.cat(list(seen)) if isinstance(seen, (list, tuple)) else seen.flatten(0, 1)
            embeds = model.get_input_embeddings()(ids)
            embeds = embeds.masked_scatter((ids == image)[..., None], seen.to(embeds.dtype))
            logits = model(inputs_embeds=embeds, logits_to_keep=28).logits[0]
        logprobs.append(logits.double().log_softmax(-1))
        del model
    full, half = logprobs
    kl = (full.exp() * (full - half)).sum(-1)
    save_file({"ids": ids[0], "pixels": pixels.contiguous()}, output)
    print(json.dumps({"mean": kl.mean().item(), "largest": kl.max().item()}))


if __name__ == "__main__":
    main()
