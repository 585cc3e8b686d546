#!/usr/bin/env python3
"""Writes a folder of the exact shape, key names and format of llava-hf/llava-1.5-7b-hf with random weights: float16,
14.1 GB in three shards and an index. For measuring what loading and answering take; what it says means nothing.

    scripts/make_random_llava_7b.py FOLDER [--seed 0] [--layers 32] [--words assets/model]
    /usr/bin/time -v sightline run --device cpu --model FOLDER --image assets/scenes/images/000000.png \\
        --prompt "describe this image." --max-new 8 --record none --out /tmp/run

Needs only numpy, and little memory: numbers are drawn and written a piece at a time. The same seed gives the same
files. --layers writes fewer decoder layers, for a smaller folder. Tokenizer and template are those of the bundled
model, whose words are the first of the vocabulary; but for the id of <image> and the end tokens that go with it, the
config is the hub's.
"""
import argparse
import json
import math
import shutil
import struct
from pathlib import Path

import numpy as np

WIDTH, INTERMEDIATE, VOCABULARY = 4096, 11008, 32064
VISION, VISION_INTERMEDIATE, VISION_LAYERS, SIDE, PATCH = 1024, 4096, 24, 336, 14
# Bytes of a shard, and numbers drawn at a time.
SHARD, PIECE = 5_000_000_000, 1 << 22


def config(layers):
    return {
        "architectures": ["LlavaForConditionalGeneration"], "ignore_index": -100, "image_token_index": 4,
        "model_type": "llava", "pad_token_id": 3, "projector_hidden_act": "gelu",
        "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096, "model_type": "llama", "num_hidden_layers": layers,
            "rms_norm_eps": 1e-05, "torch_dtype": "float16", "vocab_size": VOCABULARY,
        },
        "tie_word_embeddings": False, "torch_dtype": "float16",
        "vision_config": {
            "hidden_size": VISION, "image_size": SIDE, "intermediate_size": VISION_INTERMEDIATE,
            "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": VISION_LAYERS,
            "patch_size": PATCH, "projection_dim": 768, "vocab_size": 32000,
        },
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "vocab_size": VOCABULARY,
    }


def tensors(layers):
    """name -> shape, in the order of the files"""
    out = {"language_model.model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(layers):
        p = f"language_model.model.layers.{layer}."
        out |= {p + f"self_attn.{n}_proj.weight": (WIDTH, WIDTH) for n in "qkvo"}
        out |= {p + f"mlp.{n}_proj.weight": (INTERMEDIATE, WIDTH) for n in ("gate", "up")}
        out |= {p + "mlp.down_proj.weight": (WIDTH, INTERMEDIATE)}
        out |= {p + f"{n}_layernorm.weight": (WIDTH,) for n in ("input", "post_attention")}
    out |= {"language_model.model.norm.weight": (WIDTH,), "language_model.lm_head.weight": (VOCABULARY, WIDTH)}
    for n, width in (("linear_1", VISION), ("linear_2", WIDTH)):
        out |= {f"multi_modal_projector.{n}.weight": (WIDTH, width), f"multi_modal_projector.{n}.bias": (WIDTH,)}
    p = "vision_tower.vision_model."
    out |= {
        p + "embeddings.class_embedding": (VISION,),
        p + "embeddings.patch_embedding.weight": (VISION, 3, PATCH, PATCH),
        p + "embeddings.position_embedding.weight": ((SIDE // PATCH) ** 2 + 1, VISION),
    }
    norms = [p + "pre_layrnorm", p + "post_layernorm"]
    for layer in range(VISION_LAYERS):
        q = p + f"encoder.layers.{layer}."
        norms += [q + "layer_norm1", q + "layer_norm2"]
        linears = {f"self_attn.{n}": (VISION, VISION) for n in ("q_proj", "k_proj", "v_proj", "out_proj")}
        linears |= {"mlp.fc1": (VISION_INTERMEDIATE, VISION), "mlp.fc2": (VISION, VISION_INTERMEDIATE)}
        for n, shape in linears.items():
            out |= {q + n + ".weight": shape, q + n + ".bias": shape[:1]}
    for n in norms:
        out |= {n + ".weight": (VISION,), n + ".bias": (VISION,)}
    return out


def write_numbers(file, name, shape, random):
    """Matrices keep the size of what passes through them; norms are near 1, biases near 0."""
    left = math.prod(shape)
    is_norm = "norm" in name and name.endswith("weight")
    scale = 0.1 if len(shape) == 1 else 0.5 if "embed" in name and "patch" not in name else math.prod(shape[1:]) ** -0.5
    while left:
        n = min(left, PIECE)
        numbers = random.standard_normal(n, dtype=np.float32) * np.float32(scale) + np.float32(is_norm)
        file.write(numbers.astype("<f2").tobytes())
        left -= n


def shards(shapes):
    """Lists of names, so many bytes each"""
    parts, held = [[]], 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        if parts[-1] and held + size > SHARD:
            parts.append([])
            held = 0
        parts[-1].append(name)
        held += size
    return parts


def write_shard(path, names, shapes, random):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        end = at + 2 * math.prod(shapes[name])
        header[name] = {"dtype": "F16", "shape": list(shapes[name]), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            write_numbers(file, name, shapes[name], random)
    return at


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--words", type=Path, default=Path(__file__).parent.parent / "assets/model")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    write = lambda name, value: (args.folder / name).write_text(json.dumps(value, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(args.words / name, args.folder / name)
    write("config.json", config(args.layers))
    write("preprocessor_config.json", {
        "crop_size": {"height": SIDE, "width": SIDE}, "do_center_crop": True, "do_convert_rgb": True,
        "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_processor_type": "CLIPImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "rescale_factor": 1 / 255,
        "size": {"shortest_edge": SIDE},
    })
    random, shapes = np.random.default_rng(args.seed), tensors(args.layers)
    parts, places, total = shards(shapes), {}, 0
    for n, names in enumerate(parts):
        file = f"model-{n + 1:05}-of-{len(parts):05}.safetensors"
        total += write_shard(args.folder / file, names, shapes, random)
        places |= dict.fromkeys(names, file)
        print(f"{file}: {total / 1e9:.2f} GB so far", flush=True)
    write("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})


if __name__ == "__main__":
    main()
