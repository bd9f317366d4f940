"""A real photo through a full-size random ViT-B/16 in each real format. Shapes and files only: random weights know
nothing, so nothing is claimed about the content."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws import Segmenter, load_backbone
from clipseg_ws.output.formats.png import read_label_png

VISION = {"image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}  # small: the tower is the test


def save_open_clip(folder) -> None:
    """open_clip's format: configuration and safetensors."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.model.CLIP(embed_dim=512, vision_cfg=VISION, text_cfg=TEXT, quick_gelu=True)
    config = {"model_cfg": {"embed_dim": 512, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}}
    config["preprocess_cfg"] = {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = {k: v.contiguous().clone() for k, v in model.state_dict().items()}
    save_file(weights, str(folder / "open_clip_model.safetensors"))


def save_transformers(folder) -> None:
    """transformers' format: ``save_pretrained`` of the model and its image processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    vision |= {"image_size": 224, "patch_size": 16, "hidden_act": "quick_gelu"}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 49408, "max_position_embeddings": 77, "hidden_act": "quick_gelu"}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=512)).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "sizes"),
    [(save_open_clip, ((160, 112), (250, 333))), (save_transformers, ((224, 224),))],
    ids=["open_clip", "transformers"],
)
def test_a_photo_of_the_trained_size_and_others(save, sizes, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    save(folder)
    backbone = load_backbone(f"local-dir:{folder}", device="cpu", dtype="float32", offline=True)
    assert (backbone.patch_size, backbone.native_grid, backbone.depth, backbone.heads) == (16, (14, 14), 12, 12)
    segmenter = Segmenter(backbone=backbone)
    photo = Image.open(sorted((shared / "data" / "photos").glob("*.[jp][pn]g"))[0]).convert("RGB")
    for width, height in sizes:
        for tags in (None, ["cat"]):
            result = segmenter(photo.resize((width, height)), classes="cat; sofa; person, people", tags=tags)
            assert result.labels.shape == (height, width) and np.isfinite(result.confidence).all()
            assert set(np.unique(result.labels)) <= ({0, 1} if tags else {0, 1, 2, 3})
            paths = result.save(tmp_path / f"{width}x{height}", stem="photo")
            assert np.array_equal(read_label_png(paths[0]), result.labels)
            assert json.loads(paths[2].read_text())["size"] == {"width": width, "height": height}
