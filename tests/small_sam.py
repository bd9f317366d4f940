"""SAMs of transformers with small random weights, for the tests."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

SIDE = 64


def _prompts(config):
    return config(hidden_size=32, image_size=SIDE, patch_size=8, mask_input_channels=8)


def _decoder(config):
    return config(hidden_size=32, num_attention_heads=2, mlp_dim=64, iou_head_hidden_dim=32, num_hidden_layers=2)


def _spread(model, seed: int):
    """Random weights large enough that masks and qualities differ from point to point."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.data = torch.randn(weight.shape, generator=generator) * (1.5 / weight[0].numel() ** 0.5)
        elif "norm" not in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    for name, buffer in model.named_buffers():
        if "positional_embedding" in name:
            buffer.data = torch.randn(buffer.shape, generator=generator)
    return model.eval()


def small_sam(kind: str = "sam", seed: int = 0):
    """(model, image processor) of "sam" or "sam_hq"."""
    names = {"sam": "Sam", "sam_hq": "SamHQ"}
    part = lambda name: getattr(transformers, names[kind] + name)  # noqa: E731
    vision = part("VisionConfig")(
        hidden_size=32, output_channels=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8,
        mlp_dim=64, global_attn_indexes=[1], window_size=4, num_pos_feats=16,
    )  # fmt: skip
    decoder = _decoder(part("MaskDecoderConfig"))
    if kind == "sam_hq":
        decoder.vit_dim = 32
    config = part("Config")(
        vision_config=vision.to_dict(), prompt_encoder_config=_prompts(part("PromptEncoderConfig")).to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )  # fmt: skip
    processor = transformers.SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}, mask_size={"longest_edge": SIDE // 2},
        mask_pad_size={"height": SIDE // 2, "width": SIDE // 2},
    )  # fmt: skip
    return _spread(part("Model")(config), seed), processor


def saved_sam(folder: Path, kind: str = "sam", seed: int = 0) -> str:
    """A folder as ``save_pretrained`` writes it; its path."""
    model, processor = small_sam(kind, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
