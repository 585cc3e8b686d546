"""Turns scenes into packed questions: token ids, positions, masks and the answers to learn."""
import numpy as np
import torch

from decoder import PREFIX_LENGTH
from text import EOS, PAD, SUFFIX, encode

TYPES = ["exists", "color", "where", "left_of", "above", "count", "background", "at", "describe", "probe"]
# "probe" is for training only: the bare words "where duck" or "color duck", answered at once. Asked in sentences, the
# answer takes two steps (find the patches that look like the word; carry what was found to the last token), and
# neither is rewarded without the other; a probe rewards the first alone.
PROBES = dict(where="where", color="color", left_of="left", above="above")
DESCRIBE = ["describe this image.", "describe the image."]


class Asked:
    """All questions of all scenes as token ids: asked[scene][type] is a list of (prompt ids, answer ids)."""

    def __init__(self, scenes):
        known = {}

        def cached(text, tail):
            if (text, tail) not in known:
                known[text, tail] = encode(text) + (SUFFIX if tail else [EOS])
            return known[text, tail]

        self.scenes = []
        for scene in scenes:
            by_type = {}
            for q in scene["questions"]:
                by_type.setdefault(q["type"], []).append((cached(q["question"], True), cached(q["answer"], False)))
            answer = encode(scene["description"]) + [EOS]
            probes = []
            for q in scene["questions"]:
                name = q["question"].rstrip("?").split()[-1]
                if q["type"] in PROBES:
                    probes.append((encode(f"{PROBES[q['type']]} {name}"), cached(q["answer"], False)))
                elif q["type"] == "exists" and q["answer"] == "no":
                    probes.append((encode(f"where {name}"), cached("no", False)))
            if probes:
                by_type["probe"] = probes
            by_type["describe"] = [(cached(text, True), answer) for text in DESCRIBE]
            self.scenes.append(by_type)

    def choose(self, index, mix, budget, rng):
        """Draws questions by the types' weights until the budget of tokens is spent. At most one description."""
        here = {t: list(qs) for t, qs in self.scenes[index].items() if qs and mix.get(t, 0) > 0}
        chosen = []
        if "describe" in here:
            describe = here.pop("describe")
            if rng.random() < mix["describe"]:
                chosen.append(("describe", *describe[rng.integers(len(describe))]))
                budget -= len(chosen[0][1]) + len(chosen[0][2]) - 1
        while here:
            types = list(here)
            weights = np.array([mix[t] for t in types])
            kind = types[np.searchsorted(np.cumsum(weights), rng.random() * weights.sum())]
            prompt, answer = here[kind].pop(rng.integers(len(here[kind])))
            if not here[kind]:
                del here[kind]
            budget -= len(prompt) + len(answer) - 1
            if budget < 0:
                break
            chosen.append((kind, prompt, answer))
        return chosen


def pack(rows):
    """rows: for each picture a list of (type, prompt, answer). Gives ids, positions [b, s], mask
    [b, s, prefix + s], and for every answer token its row, column, id, type and question number."""
    b, s = len(rows), max(sum(len(p) + len(a) - 1 for _, p, a in row) for row in rows)
    ids, positions = np.full((b, s), PAD), np.zeros((b, s), np.int64)
    segment = np.zeros((b, s), np.int64)
    targets = []
    number = 0
    for i, row in enumerate(rows):
        at = 0
        for k, (kind, prompt, answer) in enumerate(row):
            tokens = prompt + answer[:-1]
            end = at + len(tokens)
            ids[i, at:end], positions[i, at:end], segment[i, at:end] = tokens, np.arange(len(tokens)), k + 1
            first = at + len(prompt) - 1
            targets += [(i, first + j, t, TYPES.index(kind), number) for j, t in enumerate(answer)]
            at, number = end, number + 1
    segment = torch.from_numpy(segment)
    own = (segment[:, :, None] == segment[:, None, :]).tril()
    mask = torch.cat([torch.ones(b, s, PREFIX_LENGTH, dtype=torch.bool), own], 2)
    return torch.from_numpy(ids), torch.from_numpy(positions), mask, torch.tensor(targets)
