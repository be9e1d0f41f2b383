"""A training step of a Vision Transformer beside timm's and transformers' at the same size.

    python tests/comparisons/image_peers.py --size lite7 --image 32 --patch 4 --batch 128

Forward, backward and AdamW (fused for all), the same labels, no dropout. The peers run in plain float32, and
in every setting that could be their best: bf16 autocast, fused attention or the plain formula, channels last.
Cases take turns in one process; the medians and the least of the rounds are shown.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.nn import functional as F

from attncli.models.vision.vit import VitModel
from attncli.models.vision.vit_config import VIT_SIZES, resolve_vit
from attncli.ops.allocator import keep_freed_memory
from attncli.recipe.image import ImageModel
from attncli.training.device import choose_arithmetic


def ours(args):
    section = ImageModel(size=args.size, patch=args.patch)
    torch.manual_seed(0)
    return VitModel(resolve_vit(section, image=(args.image, args.image), channels=3, labels=10))


def timm_vit(args):
    from timm.models.vision_transformer import VisionTransformer

    size = VIT_SIZES[args.size]
    return VisionTransformer(
        img_size=args.image,
        patch_size=args.patch,
        num_classes=10,
        embed_dim=size.width,
        depth=size.layers,
        num_heads=size.heads,
        mlp_ratio=size.intermediate / size.width,
    )


class Transformers(torch.nn.Module):
    def __init__(self, args, attention):
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        size = VIT_SIZES[args.size]
        config = ViTConfig(
            image_size=args.image,
            patch_size=args.patch,
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=size.intermediate,
            num_labels=10,
        )
        config._attn_implementation = attention
        self.model = ViTForImageClassification(config)

    def forward(self, images):
        return self.model(images).logits


def cases(args):
    """Name to (model, precision, channels last)."""
    found = {"attn": (ours(args), "auto", False)}
    for precision in ("float32", "bf16"):
        for attention in ("sdpa", "eager"):
            found[f"transformers {precision} {attention}"] = (Transformers(args, attention), precision, False)
        try:
            model = timm_vit(args)
        except ImportError as error:  # it needs torchvision
            print(f"without timm: {error}", flush=True)
            continue
        found[f"timm {precision} sdpa"] = (model, precision, False)
        if precision == "bf16":
            found[f"timm {precision} sdpa channels last"] = (timm_vit(args), precision, True)
            plain = timm_vit(args)
            for module in plain.modules():
                if hasattr(module, "fused_attn"):
                    module.fused_attn = False
            found[f"timm {precision} eager"] = (plain, precision, False)
    return found


def step_of(model, precision, last, images, labels, chosen):
    if precision == "auto":
        precision, matmul = chosen.precision, chosen.matmul
    else:
        matmul = "highest"
    layout = torch.channels_last if last else torch.contiguous_format
    model = model.train().to(memory_format=layout)
    images = images.to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        torch.set_float32_matmul_precision(matmul)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="lite7")
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--patch", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose name has one of these words, with commas")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument(
        "--threads", type=int, default=0, help="1 counts processor time: a busy machine matters less"
    )
    args = parser.parse_args()
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    chosen = choose_arithmetic("auto", torch.device("cpu"))
    images = torch.randn(args.batch, 3, args.image, args.image)
    labels = torch.randint(0, 10, (args.batch,))
    words = [word for word in args.only.split(",") if word]
    steps = {
        name: step_of(*case, images, labels, chosen)
        for name, case in cases(args).items()
        if not words or any(word in name for word in words)
    }
    seconds = {name: [] for name in steps}
    for round_ in range(args.rounds + 2):
        for name, step in steps.items():
            began = clock()
            step()
            took = clock() - began
            if round_ > 1:
                seconds[name].append(took)
            if args.verbose:
                print(f"round {round_}: {name} {took:.3f} s", flush=True)
    print(
        f"{args.size}, {args.image} pixels, patch {args.patch}, batch {args.batch}, "
        f"{torch.get_num_threads()} threads; ours in {chosen.precision}"
    )
    mine = seconds.get("attn")
    for name, took in seconds.items():
        if not took:
            continue
        median, least = statistics.median(took), min(took)
        speed = f"{1e3 * median:8.1f} ms (least {1e3 * least:.1f}), {args.batch / median:,.0f} images/s"
        times = f", {median / statistics.median(mine):.2f} times ours" if mine else ""
        print(f"{name:36} {speed}{times}")


if __name__ == "__main__":
    main()
