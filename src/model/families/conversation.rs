//! Conversations as models were taught them, for folders without a chat template that places an image: Jinja texts.
//!
//! The image's place is written as the family's image token. Knows texts only.

/// Turns that open with their role and end with `end`. Without a system message, `system` is put first, where there is one.
macro_rules! turns {
    ($image:literal, [$before:literal, $after:literal, $end:literal], $system:expr) => {
        concat!(
            $system,
            "{% for message in messages %}{{ '",
            $before,
            "' + message['role'] + '",
            $after,
            "' }}{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '",
            $image,
            "\\n' }}{% else %}{{ content['text'] }}{% endif %}{% endfor %}{{ '",
            $end,
            "' }}{% endfor %}{% if add_generation_prompt %}{{ '",
            $before,
            "assistant",
            $after,
            "' }}{% endif %}"
        )
    };
}

/// A system message for conversations that begin without one.
macro_rules! usual {
    ($before:literal, $text:literal, $end:literal) => {
        concat!("{% if messages[0]['role'] != 'system' %}{{ '", $before, $text, $end, "' }}{% endif %}")
    };
}

/// What InternVL2 was told first: made by Shanghai AI Laboratory and SenseTime, called InternVL, helpful and harmless.
macro_rules! internvl2 {
    ($before:literal, $end:literal) => {
        usual!(
            $before,
            "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。",
            $end
        )
    };
}

/// LLaVA-1.5's.
pub const LLAVA: &str = "{% for message in messages %}\
    {% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}\
    {% for content in message['content'] if content['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}\
    {% for content in message['content'] if content['type'] == 'text' %}{{ content['text'] + ' ' }}\
    {% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

/// LLaVA-Phi-3's, which is Phi-3's.
pub const LLAVA_PHI3: &str = turns!("<image>", ["<|", "|>\\n", "<|end|>\\n"], "");

/// That of InternVL's files in transformers' format.
pub const INTERNVL: &str = turns!("<IMG_CONTEXT>", ["<|im_start|>", "\\n", "<|im_end|>\\n"], "");

/// `Hermes-2` and `internlm2-chat` of InternVL2: no line break after a turn.
pub const HERMES_2: &str = turns!(
    "<IMG_CONTEXT>",
    ["<|im_start|>", "\\n", "<|im_end|>"],
    internvl2!("<|im_start|>system\\n", "<|im_end|>")
);

/// `phi3-chat` of InternVL2: none either.
pub const PHI3_CHAT: &str =
    turns!("<IMG_CONTEXT>", ["<|", "|>\\n", "<|end|>"], internvl2!("<|system|>\\n", "<|end|>"));

/// `internvl2_5`.
pub const INTERNVL2_5: &str = turns!(
    "<IMG_CONTEXT>",
    ["<|im_start|>", "\\n", "<|im_end|>\\n"],
    usual!(
        "<|im_start|>system\\n",
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。",
        "<|im_end|>\\n"
    )
);
