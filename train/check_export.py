"""Checks that transformers, given an exported folder, answers as the training code does, token for token.

    python check_export.py runs/decoder/last.pt ../assets/model cache/heldout --count 40
"""
import argparse
from pathlib import Path

import torch
from PIL import Image

from decoder import Decoder
from encoder import Encoder, VisionConfig, normalise
from evaluate import DESCRIBE, Model
from questions import pack
from text import EOS, SUFFIX, WORDS, encode
from world import read_scenes


@torch.no_grad()
def greedy(encoder, decoder, pixels, questions, limit=80):
    """One question after another by full forward passes: slow and plain."""
    features, answers = encoder(normalise(pixels[None])), []
    for question in questions:
        prompt, answer = encode(question) + SUFFIX, []
        while len(answer) < limit:
            ids, positions, mask, _ = pack([[("at", prompt + answer, [EOS])]])
            token = decoder.lm_head(decoder(features, ids, positions, mask)[0, -1]).argmax().item()
            if token == EOS:
                break
            answer.append(token)
        answers.append(" ".join(WORDS[t] for t in answer))
    return answers


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("checkpoint"), args.add_argument("model"), args.add_argument("scenes", type=Path)
    args.add_argument("--count", type=int, default=40)
    args = args.parse_args()
    torch.set_num_threads(1)
    state = torch.load(args.checkpoint)
    encoder, decoder = Encoder(), Decoder(VisionConfig.hidden_size)
    encoder.load_state_dict(state["encoder"]), decoder.load_state_dict(state["decoder"])
    theirs = Model(args.model)
    same = total = 0
    import numpy as np
    for scene in read_scenes(args.scenes)[: args.count]:
        image = Image.open(args.scenes / "images" / scene["file"]).convert("RGB")
        questions = [q["question"] for q in scene["questions"]][:6] + [DESCRIBE]
        a = greedy(encoder, decoder, torch.from_numpy(np.asarray(image).copy()), questions)
        b = theirs.answer(image, questions)
        same, total = same + sum(x == y for x, y in zip(a, b)), total + len(a)
        for q, x, y in zip(questions, a, b):
            if x != y:
                print(scene["file"], q, "|", x, "|", y)
    print(f"{same} of {total} answers are the same")


if __name__ == "__main__":
    main()
