"""Measures an exported model with transformers alone, the way anybody would run it.

    python evaluate.py ../assets/model cache/test --count 500 [--blank | --shuffle] [--json out.json]

Greedy answers to the questions and the description of every scene: accuracy per type with Wilson's 95 % interval,
beside the best constant answer; precision, recall and F1 of the classes named in the descriptions (multisets).
Questions that share a picture share its features; every answer is decoded as if it were asked alone.
"""
import argparse
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from world import CLASSES, read_scenes

DESCRIBE = "describe this image."


def wilson(right, n, z=1.96):
    if n == 0:
        return 0.0, 1.0
    p = right / n
    middle, spread = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


class Model:
    def __init__(self, folder):
        folder = Path(folder)
        self.model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        self.processor = CLIPImageProcessor(**{k: v for k, v in json.loads((folder / "preprocessor_config.json").read_text()).items() if k != "image_processor_type"})
        self.template = (folder / "chat_template.jinja").read_text()
        config = self.model.config
        self.image_id, self.patches, self.eos = config.image_token_index, config.image_seq_length, config.text_config.eos_token_id
        import jinja2
        self.render = jinja2.Environment().from_string(self.template).render

    def prompt(self, question):
        message = dict(role="user", content=[dict(type="image"), dict(type="text", text=question)])
        ids = self.tokenizer.encode(self.render(messages=[message], bos_token="<s>", eos_token="</s>", add_generation_prompt=True), add_special_tokens=False)
        at = ids.index(self.image_id)
        return ids[:at] + [self.image_id] * self.patches + ids[at + 1:]

    @torch.no_grad()
    def answer(self, image, questions, limit=80):
        """Greedy answers. Questions are grouped by length, so that nothing is padded."""
        pixels = self.processor(image, return_tensors="pt")["pixel_values"]
        answers = [None] * len(questions)
        groups = {}
        for i, q in enumerate(questions):
            ids = self.prompt(q)
            groups.setdefault(len(ids), []).append((i, ids))
        for group in groups.values():
            ids = torch.tensor([ids for _, ids in group])
            out = self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit,
                                      pixel_values=pixels.expand(len(group), -1, -1, -1))
            for (i, _), row in zip(group, out[:, ids.shape[1]:].tolist()):
                row = row[: row.index(self.eos)] if self.eos in row else row
                answers[i] = " ".join(self.tokenizer.convert_ids_to_tokens(row))
        return answers


def words(text):
    return re.findall(r"\w+|[^\w\s]", text.lower())


def classes_in(text):
    return Counter(w for w in words(text) if w in CLASSES)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("model")
    args.add_argument("scenes", type=Path)
    args.add_argument("--count", type=int, default=500)
    args.add_argument("--blank", action="store_true", help="a grey picture instead of each scene's")
    args.add_argument("--shuffle", action="store_true", help="the next scene's picture instead of each scene's")
    args.add_argument("--most", type=int, default=10**9, help="at most this many questions of a type")
    args.add_argument("--json", type=Path)
    args.add_argument("--threads", type=int, default=1)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    model, scenes = Model(args.model), read_scenes(args.scenes)[: args.count]
    right, asked, answers, lists = Counter(), Counter(), {}, Counter()
    for i, scene in enumerate(scenes):
        shown = scenes[(i + 1) % len(scenes)] if args.shuffle else scene
        image = Image.open(args.scenes / "images" / shown["file"]).convert("RGB")
        if args.blank:
            image = Image.new("RGB", image.size, (128, 128, 128))
        questions = [q for q in scene["questions"] if asked[q["type"]] < args.most]
        said = model.answer(image, [q["question"] for q in questions] + [DESCRIBE])
        for q, a in zip(questions, said):
            asked[q["type"]] += 1
            right[q["type"]] += words(a) == words(q["answer"])
            answers.setdefault(q["type"], Counter())[q["answer"]] += 1
        truth, named = Counter(o["class"] for o in scene["objects"]), classes_in(said[-1])
        lists.update(hit=sum((truth & named).values()), truth=sum(truth.values()), named=sum(named.values()),
                     exact=words(said[-1]) == words(scene["description"]), scenes=1)
    table = {}
    for kind in asked:
        low, high = wilson(right[kind], asked[kind])
        constant = answers[kind].most_common(1)[0]
        table[kind] = dict(accuracy=right[kind] / asked[kind], low=low, high=high, n=asked[kind], constant=constant[0], constant_accuracy=constant[1] / asked[kind])
        print(f"{kind:11} {right[kind] / asked[kind]:.3f} [{low:.3f}, {high:.3f}] n={asked[kind]}  best constant: {constant[0]} {constant[1] / asked[kind]:.3f}")
    precision, recall = lists["hit"] / max(1, lists["named"]), lists["hit"] / lists["truth"]
    f1 = 2 * lists["hit"] / (lists["named"] + lists["truth"])
    table["describe"] = dict(precision=precision, recall=recall, f1=f1, exact=lists["exact"] / lists["scenes"], n=lists["scenes"])
    print(f"describe    objects: precision {precision:.3f} recall {recall:.3f} F1 {f1:.3f}; whole text right {lists['exact'] / lists['scenes']:.3f} n={lists['scenes']}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
