"""Writes a checkpoint as a LLaVA folder that transformers' LlavaForConditionalGeneration loads.

    python export.py runs/decoder/last.pt ../assets/model
"""
import json
import sys
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, GenerationConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from decoder import TextConfig
from encoder import VisionConfig
from text import BOS, CHAT_TEMPLATE, EOS, IMAGE, PAD, SPECIAL, tokenizer_json
from world import PATCH, PATCHES

PROCESSOR = dict(image_processor_type="CLIPImageProcessor", do_resize=True, size=dict(shortest_edge=192), resample=3,
                 do_center_crop=True, crop_size=dict(height=192, width=192), do_rescale=True, rescale_factor=1 / 255,
                 do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True)
TOKENIZER = dict(backend="tokenizers", tokenizer_class="TokenizersBackend", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
                 unk_token="<unk>", extra_special_tokens=["<image>"], model_max_length=1024)


def build():
    v, t = VisionConfig, TextConfig
    vision = CLIPVisionConfig(hidden_size=v.hidden_size, intermediate_size=v.intermediate_size, num_hidden_layers=v.num_hidden_layers,
                              num_attention_heads=v.num_attention_heads, image_size=192, patch_size=PATCH, projection_dim=v.hidden_size,
                              hidden_act="quick_gelu", layer_norm_eps=1e-5)
    text = LlamaConfig(hidden_size=t.hidden_size, intermediate_size=t.intermediate_size, num_hidden_layers=t.num_hidden_layers,
                       num_attention_heads=t.num_attention_heads, num_key_value_heads=t.num_attention_heads, head_dim=t.head_dim,
                       vocab_size=t.vocab_size, rms_norm_eps=t.rms_norm_eps, max_position_embeddings=512, tie_word_embeddings=False,
                       bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
                       rope_parameters=dict(rope_type="default", rope_theta=t.rope_theta))
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=PATCHES,
                         vision_feature_layer=-1, vision_feature_select_strategy="default", projector_hidden_act="gelu",
                         multimodal_projector_bias=True, tie_word_embeddings=False)
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, do_sample=False, max_new_tokens=80)
    return model.float().eval()


def fill(model, checkpoint):
    """Copies every trained tensor; says what was left as it was."""
    theirs = dict(model.named_parameters())

    def vision_name(name):
        return next(k for k in theirs if "vision_tower" in k and k.endswith("." + name))

    ours = {vision_name(n): p for n, p in checkpoint["encoder"].items()}
    for name, p in checkpoint["decoder"].items():
        if name.startswith("projector."):
            name = "model.multi_modal_projector." + name.removeprefix("projector.")
        elif not name.startswith("lm_head"):
            name = "model.language_model." + name
        ours[name] = p
    with torch.no_grad():
        for name, p in ours.items():
            assert theirs[name].shape == p.shape, name
            theirs[name].copy_(p)
    return sorted(set(theirs) - set(ours))


def main(checkpoint, out):
    out = Path(out)
    model = build()
    untouched = fill(model, torch.load(checkpoint))
    model.save_pretrained(out)
    for name, value in [("tokenizer.json", tokenizer_json()), ("tokenizer_config.json", TOKENIZER), ("preprocessor_config.json", PROCESSOR)]:
        (out / name).write_text(json.dumps(value, indent=1) + "\n")
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    _, info = LlavaForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    print("never trained (not read by feature layer -1):", untouched)
    print(sum(p.numel() for p in model.parameters()), "parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
