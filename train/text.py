"""The word-level tokenizer: lower case, punctuation apart, one id a word."""
import json
import re

from world import BACKGROUNDS, CLASSES, COLORS, PLACES

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
UNK, BOS, EOS, PAD, IMAGE = range(5)
TEMPLATE = "user assistant : ? , ."
GRAMMAR = "a above and are at background color describe how image is left many no nothing objects of on the there this what where yes"
NUMBERS = "one two three four five six seven eight nine"


def vocabulary():
    words = TEMPLATE.split()
    rest = set(GRAMMAR.split()) | set(NUMBERS.split()) | set(" ".join(PLACES).split()) | set(COLORS) | set(BACKGROUNDS) | set(CLASSES)
    return SPECIAL + words + sorted(rest)


WORDS = vocabulary()
IDS = {word: i for i, word in enumerate(WORDS)}


def encode(text):
    return [IDS[token] for token in re.findall(r"\w+|[^\w\s]", text.lower())]


def decode(ids):
    text = " ".join(WORDS[i] for i in ids if i >= len(SPECIAL))
    return re.sub(r" ([.,?:])", r"\1", text)


PREFIX = [BOS] + encode("user :")  # then the picture, then a question
SUFFIX = encode("assistant :")

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}USER: {% for c in m.content %}{% if c.type == 'image' %}<image>\n"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}{% else %} ASSISTANT: {% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endif %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def tokenizer_json():
    added = [dict(id=i, content=w, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i, w in enumerate(SPECIAL)]
    template = dict(type="TemplateProcessing", single=[{"Sequence": {"id": "A", "type_id": 0}}],
                    pair=[{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], special_tokens={})
    return dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=dict(type="Lowercase"),
                pre_tokenizer=dict(type="Sequence", pretokenizers=[dict(type="WhitespaceSplit"), dict(type="Punctuation", behavior="Isolated")]),
                post_processor=template, decoder=None, model=dict(type="WordLevel", vocab=IDS, unk_token="<unk>"))


if __name__ == "__main__":
    print(len(WORDS), json.dumps(WORDS))
