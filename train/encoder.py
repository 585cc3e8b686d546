"""The vision tower: CLIP's architecture with transformers' parameter names, and the heads that train it."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from world import BACKGROUNDS, CLASSES, COLORS, GRID, PATCH, PATCHES, PLACES


class VisionConfig:
    hidden_size = 128
    intermediate_size = 512
    num_hidden_layers = 5
    num_attention_heads = 4


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c.hidden_size
        self.heads = c.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x):
        b, s, d = x.shape
        q, k, v = (p(x).view(b, s, self.heads, -1).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, d))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1 = nn.Linear(c.hidden_size, c.intermediate_size)
        self.fc2 = nn.Linear(c.intermediate_size, c.hidden_size)

    def forward(self, x):
        return self.fc2(F.silu(self.fc1(x) * 1.702) / 1.702)  # quick_gelu


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c.hidden_size), nn.LayerNorm(c.hidden_size)
        self.self_attn, self.mlp = Attention(c), Mlp(c)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c.hidden_size
        self.class_embedding = nn.Parameter(torch.randn(d) * 0.02)
        self.patch_embedding = nn.Conv2d(3, d, PATCH, PATCH, bias=False)
        self.position_embedding = nn.Embedding(PATCHES + 1, d)
        nn.init.normal_(self.position_embedding.weight, std=0.1)

    def forward(self, pixels):
        b = pixels.shape[0]
        patches = pixels.view(b, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(b, PATCHES, -1)
        x = patches @ self.patch_embedding.weight.flatten(1).T
        x = torch.cat([self.class_embedding.expand(b, 1, -1), x], 1)
        return x + self.position_embedding.weight


class Encoder(nn.Module):
    """Pixels to the 144 patches of the last layer, un-normed: what LLaVA's vision_feature_layer -1 reads."""

    def __init__(self, c=VisionConfig):
        super().__init__()
        self.embeddings = Embeddings(c)
        self.pre_layrnorm = nn.LayerNorm(c.hidden_size)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        for layer in self.encoder.layers:
            for linear in (layer.self_attn.out_proj, layer.mlp.fc2):
                nn.init.normal_(linear.weight, std=0.01)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, pixels):
        x = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder.layers:
            x = layer(x)
        return x[:, 1:]


class Heads(nn.Module):
    """What every patch is asked during training. Thrown away afterwards: the decoder gets no part of them."""

    SIZES = dict(cls=len(CLASSES) + 1, color=len(COLORS) + 1, place=len(PLACES), offset=2, centre=1,
                 background=len(BACKGROUNDS), row=GRID, column=GRID)

    def __init__(self, d):
        super().__init__()
        self.norm = nn.LayerNorm(d, elementwise_affine=False)
        self.all = nn.Linear(d, sum(self.SIZES.values()))

    def forward(self, features):
        return dict(zip(self.SIZES, self.all(self.norm(features)).split(list(self.SIZES.values()), -1)))


def normalise(pixels):
    """uint8 [b, 192, 192, 3] to what the image processor gives."""
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()
