"""Small random models of the families that open_clip builds: the real configuration, two blocks, a short vocabulary.

Widths, heads, pooling, patches and positions are the real ones. The tower of texts is cut to one block and 300 words;
one of transformers gets that library's default configuration of its kind, cut in the same way: no network is used.
"""

from __future__ import annotations

import copy
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch

from clipseg_ws.backbones import wrap
from clipseg_ws.backbones.custom import empty_model, fill_buffers, is_custom
from clipseg_ws.backbones.hybrid import empty_hybrid, is_hybrid

LENGTH = 12  # tokens of a text in the models with a vocabulary of their own
WORDS = 300
HYBRID = "hybrid"  # no architecture of open_clip: its ViT-B-16 behind a convolutional stem, see ``backbones.hybrid``


def tokenize(texts: list[str]) -> torch.Tensor:
    """Any text -> [T, 12] ids that follow its letters, id 2 last."""
    rows = [[3 + (ord(letter) * 7 + i) % (WORDS - 3) for i, letter in enumerate(text[: LENGTH - 1])] for text in texts]
    return torch.tensor([row + [2] + [1] * (LENGTH - 1 - len(row)) for row in rows])


def small_config(architecture: str, blocks: int = 2, width: int | None = None) -> dict[str, Any]:
    """open_clip's configuration with few blocks and words; pooling, patches and mostly widths stay.

    ``width``: of towers of open_clip's own, with heads of 32 and 8 queries of a pooler, to be fast.
    """
    plain = "ViT-B-16" if architecture == HYBRID else architecture
    cfg: dict[str, Any] = copy.deepcopy(open_clip.get_model_config(plain))
    vision, text = cfg["vision_cfg"], cfg["text_cfg"]
    if architecture == HYBRID:
        vision["stem"] = "tf_efficientnet_lite0"
    if not vision.get("timm_model_name"):
        vision["layers"] = blocks
        if width is not None:
            vision |= {"width": width, "head_width": 32, "attn_pooler_queries": 8}
            text |= {"width": 64, "heads": 2}
    if text.get("hf_model_name"):
        text["hf_model_name"] = str(_text_folder(text["hf_model_name"]))
    else:
        text |= {"layers": 1, "vocab_size": WORDS, "context_length": LENGTH}
        text.pop("eos_id", None)
    if "multimodal_cfg" in cfg:
        cfg["multimodal_cfg"] |= {"layers": 1, "vocab_size": WORDS, "context_length": LENGTH}
    return cfg


@cache
def small_model(architecture: str) -> Any:
    """Seeded, float32, eval mode; weights that are no ones and zeros. Shared by tests: never changed."""
    return random_model(small_config(architecture, width=128), architecture)


def random_model(cfg: dict[str, Any], name: str) -> Any:
    """A model of a configuration, the trunks of timm cut to their first and last block."""
    if is_custom(cfg):
        model = empty_model(cfg, name)
    else:
        build = empty_hybrid if is_hybrid(cfg) else lambda settings: open_clip.model.CLIP(**settings)
        with torch.device("meta"):
            model = build({key: value for key, value in cfg.items() if key != "custom_text"})
    trunk = getattr(model.visual, "trunk", None)
    if trunk is not None:
        trunk.blocks = type(trunk.blocks)(*_ends(trunk)) if _is_sequence(trunk) else torch.nn.ModuleList(_ends(trunk))
        if hasattr(trunk.patch_embed, "strict_img_size"):
            trunk.patch_embed.strict_img_size = False
    generator = torch.Generator().manual_seed(0)
    state = {key: _value(key, value, generator) for key, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    fill_buffers(model)
    mask = getattr(model, "attn_mask", None)
    if mask is not None and mask.is_meta:
        model.attn_mask = torch.full(mask.shape, float("-inf")).triu_(1)
    return model.eval()


def small_backbone(architecture: str, **settings: Any) -> Any:
    """``wrap`` of the small model."""
    return wrap(small_model(architecture), tokenizer=tokenize, **settings)


@cache
def _text_folder(name: str) -> Path:
    """A folder with the configuration of a small text tower of the kind that ``name`` of the hub is."""
    import transformers as tf

    small: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    small["intermediate_size"] = 64
    if "nllb" in name:
        ends: dict[str, Any] = {f"{end}_{key}": value for end in ("encoder", "decoder")
                for key, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 64))}  # fmt: skip
        config: Any = tf.M2M100Config(vocab_size=WORDS, d_model=64, **ends)
    else:
        kind = tf.XLMRobertaConfig if name.startswith("xlm") else tf.RobertaConfig
        config = kind(vocab_size=WORDS, **small)
    folder = Path(tempfile.mkdtemp(prefix="clipseg_ws_text_"))
    config.save_pretrained(folder)
    return folder


def _ends(trunk: Any) -> list[Any]:
    return [trunk.blocks[0], trunk.blocks[-1]]


def _is_sequence(trunk: Any) -> bool:
    return isinstance(trunk.blocks, torch.nn.Sequential)


def _value(key: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    value = torch.randn(like.shape, generator=generator) * 0.05
    if "running_var" in key:
        return value.abs() + 0.5
    if key == "logit_scale":
        return value + 2.0
    return value + 1 if key.endswith("weight") and like.ndim == 1 else value
