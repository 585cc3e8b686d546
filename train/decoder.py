"""The projector and the decoder: LLaVA's and Llama's architecture with transformers' parameter names.

Training and evaluation ask many questions of one picture at once. The prefix (BOS, "user :", 144 patches) goes
through once; the packed questions see it and themselves only, with positions that go on from the prefix: exactly
what each would see alone.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from text import PREFIX, WORDS
from world import PATCHES

PREFIX_LENGTH = len(PREFIX) + PATCHES


class TextConfig:
    hidden_size = 128
    intermediate_size = 352
    num_hidden_layers = 6
    num_attention_heads = 4
    head_dim = 32
    rope_theta = 500000.0
    rms_norm_eps = 1e-6
    vocab_size = len(WORDS)


def rope_table(c, length=512):
    frequency = c.rope_theta ** (-torch.arange(0, c.head_dim, 2).float() / c.head_dim)
    angle = torch.outer(torch.arange(length).float(), frequency)
    return angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.dim = c.num_attention_heads, c.head_dim
        d, inner = c.hidden_size, c.num_attention_heads * c.head_dim
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(d, inner, bias=False) for _ in range(3))
        self.o_proj = nn.Linear(inner, d, bias=False)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, self.dim).transpose(1, 2)

    def merge(self, x):
        return self.o_proj(x.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(c.hidden_size, c.intermediate_size, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn, self.mlp = Attention(c), Mlp(c)


class Projector(nn.Module):
    def __init__(self, vision, text):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(vision, text), nn.Linear(text, text)

    def forward(self, x):
        return self.linear_2(F.gelu(self.linear_1(x)))

    @torch.no_grad()
    def fit(self, features, shrink=0.1, lift=2.0):
        """Starts as a nearly linear map that whitens the features: no direction of the vision tower, however
        strong, drowns the others, and visual tokens come out as large as words. Knows nothing of the words."""
        x = features.reshape(-1, features.shape[-1]).double()
        mean = x.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(x.T))
        scale = (values.clamp(min=0) + shrink * values.mean()).rsqrt()
        white = vectors * scale @ vectors.T
        white /= ((x - mean) @ white).std()
        text = self.linear_1.weight.shape[0]
        frame = torch.linalg.qr(torch.randn(max(text, x.shape[1]), max(text, x.shape[1])).double())[0][:text, : x.shape[1]]
        self.linear_1.weight.copy_((frame @ white.T) * (text / x.shape[1]) ** 0.5)
        self.linear_1.bias.copy_(-(self.linear_1.weight.double() @ mean) + lift)
        self.linear_2.weight.copy_(torch.linalg.qr(torch.randn(text, text))[0])
        self.linear_2.bias.zero_()
        out = self(features.reshape(-1, features.shape[-1]))
        self.linear_2.bias.copy_(-out.mean(0))
        scale = (out - out.mean(0)).pow(2).mean().rsqrt()
        self.linear_2.weight.mul_(scale), self.linear_2.bias.mul_(scale)


class Decoder(nn.Module):
    """multi_modal_projector, model.* and lm_head of a LlavaForConditionalGeneration."""

    def __init__(self, vision, c=TextConfig):
        super().__init__()
        d = c.hidden_size
        self.config = c
        self.projector = Projector(vision, d)
        self.embed_tokens = nn.Embedding(c.vocab_size, d)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = nn.RMSNorm(d, c.rms_norm_eps)
        self.lm_head = nn.Linear(d, c.vocab_size, bias=False)
        nn.init.zeros_(self.lm_head.weight)
        for layer in self.layers:
            for p in layer.parameters():
                if p.ndim == 2:
                    nn.init.normal_(p, std=p.shape[1] ** -0.5)
            nn.init.normal_(layer.self_attn.o_proj.weight, std=0.02)
            nn.init.normal_(layer.mlp.down_proj.weight, std=0.02)
        cos, sin = rope_table(c)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def prefix(self, features):
        words = self.embed_tokens(torch.tensor(PREFIX)).expand(features.shape[0], -1, -1)
        return torch.cat([words, self.projector(features)], 1)

    def forward(self, features, ids, positions, mask, keep=None):
        """Hidden states [b, s, d] of packed questions. ids and positions (from the prefix's end) are [b, s], mask
        is [b, s, prefix + s], true where a token may look. keep lists the prefix positions that take part (all of
        them unless told otherwise: leaving some out makes early training cheaper); they keep their positions."""
        x, y = self.prefix(features), self.embed_tokens(ids)
        cos_x, sin_x = self.cos[:PREFIX_LENGTH], self.sin[:PREFIX_LENGTH]
        if keep is not None:
            x, cos_x, sin_x = x[:, keep], cos_x[keep], sin_x[keep]
            mask = torch.cat([mask[..., keep], mask[..., PREFIX_LENGTH:]], -1)
        at = positions + PREFIX_LENGTH
        cos_y, sin_y = self.cos[at][:, None], self.sin[at][:, None]
        mask = mask[:, None]
        for i, layer in enumerate(self.layers):
            a, last = layer.self_attn, i + 1 == len(self.layers)
            nx, ny = layer.input_layernorm(x), layer.input_layernorm(y)
            kx, vx = rotate(a.split(a.k_proj(nx)), cos_x, sin_x), a.split(a.v_proj(nx))
            ky, vy = rotate(a.split(a.k_proj(ny)), cos_y, sin_y), a.split(a.v_proj(ny))
            qy = rotate(a.split(a.q_proj(ny)), cos_y, sin_y)
            y = y + a.merge(F.scaled_dot_product_attention(qy, torch.cat([kx, ky], 2), torch.cat([vx, vy], 2), attn_mask=mask))
            y = y + layer.mlp(layer.post_attention_layernorm(y))
            if not last:  # nothing reads the prefix after the last layer
                qx = rotate(a.split(a.q_proj(nx)), cos_x, sin_x)
                x = x + a.merge(F.scaled_dot_product_attention(qx, kx, vx, is_causal=True))
                x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.norm(y)
