//! How files name the parts of vision towers and decoders, and which of them they keep as one matrix.
//!
//! Names stand behind a prefix that the family finds; those of norms and layers lack `.weight` and `.bias`. Fused matrices
//! are `[out, in]`: this says whose rows are whose. Knows names and numbers of rows; no tensors.

use std::{iter, ops::Range};

/// Layers over the same input.
#[derive(Clone, Copy, Debug)]
pub enum Parts<const N: usize> {
    /// Each by itself.
    Apart([&'static str; N]),
    /// As the rows of one.
    Joined(&'static str),
}

/// The rows of layers that stand one behind the other, by how many each has.
pub fn in_order<const N: usize>(sizes: [usize; N]) -> [Vec<Range<usize>>; N] {
    let mut start = 0;
    sizes.map(|size| {
        start += size;
        iter::once(start - size..start).collect()
    })
}

/// The rows of queries, keys and values that stand key head by key head: so many times a key head's `sizes`.
pub fn head_by_head(groups: usize, sizes: [usize; 3]) -> [Vec<Range<usize>>; 3] {
    let all: usize = sizes.iter().sum();
    in_order(sizes).map(|first| {
        let of =
            |group: usize| first.iter().map(move |rows| group * all + rows.start..group * all + rows.end);
        (0..groups).flat_map(of).collect()
    })
}

/// The names of a decoder's parts.
#[derive(Debug)]
pub struct DecoderNames {
    /// The embedding table.
    pub embedding: &'static str,
    /// Behind a layer's number: the norm before attention.
    pub norm1: &'static str,
    /// The projections to queries, keys and values.
    pub qkv: Parts<3>,
    /// Whether, joined, they stand key head by key head.
    pub grouped: bool,
    /// The norms of queries and keys.
    pub qk_norm: [&'static str; 2],
    /// Attention's output projection.
    pub out: &'static str,
    /// The norm before the MLP.
    pub norm2: &'static str,
    /// The MLP's gate and its other input.
    pub gate_up: Parts<2>,
    /// The MLP's output projection.
    pub down: &'static str,
}

/// transformers' Llama, Qwen2 and Qwen3.
pub const LLAMA: DecoderNames = DecoderNames {
    embedding: "embed_tokens",
    norm1: "input_layernorm",
    qkv: Parts::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    grouped: false,
    qk_norm: ["self_attn.q_norm", "self_attn.k_norm"],
    out: "self_attn.o_proj",
    norm2: "post_attention_layernorm",
    gate_up: Parts::Apart(["mlp.gate_proj", "mlp.up_proj"]),
    down: "mlp.down_proj",
};

/// transformers' Phi-3.
pub const PHI3: DecoderNames = DecoderNames {
    qkv: Parts::Joined("self_attn.qkv_proj"),
    gate_up: Parts::Joined("mlp.gate_up_proj"),
    ..LLAMA
};

/// InternLM2, as its authors ship it.
pub const INTERNLM2: DecoderNames = DecoderNames {
    embedding: "tok_embeddings",
    norm1: "attention_norm",
    qkv: Parts::Joined("attention.wqkv"),
    grouped: true,
    qk_norm: ["attention.q_norm", "attention.k_norm"],
    out: "attention.wo",
    norm2: "ffn_norm",
    gate_up: Parts::Apart(["feed_forward.w1", "feed_forward.w3"]),
    down: "feed_forward.w2",
};

/// The names of a vision tower's parts; what has none is not there.
#[derive(Debug)]
pub struct TowerNames {
    /// The class token.
    pub class: Option<&'static str>,
    /// The position embedding's table, whole.
    pub positions: &'static str,
    /// Whether these two are stored as a batch of one.
    pub batched: bool,
    /// The patch embedding.
    pub patches: &'static str,
    /// Whether it has a bias.
    pub patch_bias: bool,
    /// The norm before the stack.
    pub pre_norm: Option<&'static str>,
    /// The norm after it.
    pub post_norm: Option<&'static str>,
    /// What stands before a layer's number.
    pub layers: &'static str,
    /// Behind it: the norm before attention.
    pub norm1: &'static str,
    /// The projections to queries, keys and values.
    pub qkv: Parts<3>,
    /// The norms of queries and keys.
    pub qk_norm: [&'static str; 2],
    /// Attention's output projection.
    pub out: &'static str,
    /// The norm before the MLP.
    pub norm2: &'static str,
    /// What attention and the MLP are multiplied by before they are added, whole.
    pub scales: Option<[&'static str; 2]>,
}

/// transformers' SigLIP in Idefics3.
pub const SIGLIP: TowerNames = TowerNames {
    class: None,
    positions: "embeddings.position_embedding.weight",
    batched: false,
    patches: "embeddings.patch_embedding",
    patch_bias: true,
    pre_norm: None,
    post_norm: Some("post_layernorm"),
    layers: "encoder.layers.",
    norm1: "layer_norm1",
    qkv: Parts::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    qk_norm: ["self_attn.q_norm", "self_attn.k_norm"],
    out: "self_attn.out_proj",
    norm2: "layer_norm2",
    scales: None,
};

/// transformers' CLIP.
pub const CLIP: TowerNames = TowerNames {
    class: Some("embeddings.class_embedding"),
    patch_bias: false,
    pre_norm: Some("pre_layrnorm"),
    ..SIGLIP
};

/// transformers' InternViT.
pub const INTERNVL: TowerNames = TowerNames {
    class: Some("embeddings.cls_token"),
    positions: "embeddings.position_embeddings",
    batched: true,
    patches: "embeddings.patch_embeddings.projection",
    patch_bias: true,
    pre_norm: None,
    post_norm: None,
    layers: "encoder.layer.",
    norm1: "layernorm_before",
    qkv: Parts::Apart(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
    qk_norm: ["attention.q_norm", "attention.k_norm"],
    out: "attention.projection_layer",
    norm2: "layernorm_after",
    scales: Some(["lambda_1", "lambda_2"]),
};

/// InternViT, as its authors ship it.
pub const INTERN_VIT: TowerNames = TowerNames {
    class: Some("embeddings.class_embedding"),
    positions: "embeddings.position_embedding",
    patches: "embeddings.patch_embedding",
    layers: "encoder.layers.",
    norm1: "norm1",
    qkv: Parts::Joined("attn.qkv"),
    qk_norm: ["attn.q_norm", "attn.k_norm"],
    out: "attn.proj",
    norm2: "norm2",
    scales: Some(["ls1", "ls2"]),
    ..INTERNVL
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fused_rows_are_shared_out_whole() {
        assert_eq!(in_order([12, 4, 4]).concat(), [0..12, 12..16, 16..20]);
        // Three query heads of two numbers a key head.
        let grouped = [vec![0..6, 10..16], vec![6..8, 16..18], vec![8..10, 18..20]];
        assert_eq!(head_by_head(2, [6, 2, 2]), grouped);
    }
}
