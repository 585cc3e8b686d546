"""Muon for matrices, Adam for the rest, in float32 (torch.optim.Muon works in bfloat16, which is very slow on
CPUs without bf16 instructions). Matrices of one shape are orthogonalised together."""
import torch


def orthogonalise(g, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    transpose = g.size(-2) > g.size(-1)
    x = g.mT if transpose else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.mT if transpose else x


class Muon(torch.optim.Optimizer):
    """lr is in the original's units: an update has spectral norm lr * sqrt(max(1, rows / columns))."""

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, ps in shapes.items():
                updates = []
                for p in ps:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                scale = max(1, shape[0] / shape[1]) ** 0.5
                for p, update in zip(ps, orthogonalise(torch.stack(updates))):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


class Both:
    """The two optimisers as one, with a shared schedule."""

    def __init__(self, named_params, muon_lr, adam_lr, is_hidden, betas=(0.9, 0.98), adam_scale=None):
        named = [(n, p) for n, p in named_params if p.requires_grad]
        matrices = [p for n, p in named if p.ndim == 2 and is_hidden(n)]
        rest = {}
        for n, p in named:
            if not (p.ndim == 2 and is_hidden(n)):
                rest.setdefault(adam_scale(n) if adam_scale else 1.0, []).append(p)
        self.parts = [Muon(matrices, lr=muon_lr)]
        self.parts.append(torch.optim.Adam([dict(params=ps, lr=adam_lr * s) for s, ps in rest.items()], betas=betas, eps=1e-10, foreach=True))
        self.base = [[g["lr"] for g in part.param_groups] for part in self.parts]

    def step(self, factor):
        for part, base in zip(self.parts, self.base):
            for group, lr in zip(part.param_groups, base):
                group["lr"] = lr * factor
            part.step()

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self):
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states):
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)
