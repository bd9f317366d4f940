"""The SAM family of transformers behind one interface: a picture is embedded once, prompts are decoded after another.

SAM and SAM-HQ see a picture with its longer side at 1024 and padding below and to the right, SAM 2 and SAM 3's tracker
see it stretched to a square; points and boxes here are always in pixels of the picture.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.backbones.second import local_folder, repo_folder
from clipseg_ws.door import user_path

# model type of a configuration -> the class of transformers that decodes prompts
KINDS: Mapping[str, str] = {
    "sam": "SamModel", "sam_hq": "SamHQModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model",
    "sam3_tracker": "Sam3TrackerModel", "sam3_tracker_video": "Sam3TrackerModel", "sam3_video": "Sam3TrackerModel",
}  # fmt: skip
LOGIT = 8.0  # of a mask prompt that is sure


@dataclass(frozen=True, eq=False)
class Seen:
    """One embedded picture. size: (H, W). network: (h, w) that it fills of the network's square. side: of the square.
    given: keyword arguments of the model that stand for the picture. about: what enlarging masks needs."""

    size: tuple[int, int]
    network: tuple[int, int]
    side: int
    given: Mapping[str, Any]
    about: Mapping[str, Any]


class Sam:
    """A SAM with its image processor.

    Args:
        model: ``SamModel``, ``SamHQModel``, ``Sam2Model`` or ``Sam3TrackerModel``. processor: its image processor.

    Example:
        >>> sam = load_sam("facebook/sam-vit-base")
        >>> seen = sam.embed(np.asarray(Image.open("photo.jpg").convert("RGB")))
        >>> low, quality = sam.decode(seen, points=torch.tensor([[[120.0, 80.0]]]))
        >>> mask = sam.enlarge(seen, low)[0, quality[0].argmax()] > 0
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @torch.no_grad()
    def embed(self, image: NDArray[np.uint8]) -> Seen:
        """[H, W, 3] uint8 RGB through the picture's encoder."""
        ready = self.processor(images=[np.array(image)], return_tensors="pt")
        pixels = ready["pixel_values"]
        embedded = self.model.get_image_embeddings(pixels.to(self.device, next(self.model.parameters()).dtype))
        given: dict[str, Any] = {"image_embeddings": embedded}
        if isinstance(embedded, tuple):  # SAM-HQ
            given = {"image_embeddings": embedded[0], "intermediate_embeddings": embedded[1]}
        about = {"original_sizes": [tuple(image.shape[:2])]}
        network = (int(pixels.shape[2]), int(pixels.shape[3]))
        if "reshaped_input_sizes" in ready:
            filled = torch.as_tensor(ready["reshaped_input_sizes"])[0].tolist()
            about["reshaped_input_sizes"], network = [tuple(filled)], (int(filled[0]), int(filled[1]))
        return Seen((image.shape[0], image.shape[1]), network, int(pixels.shape[-1]), given, about)

    @torch.no_grad()
    def decode(
        self, seen: Seen, *, points: Tensor | None = None, labels: Tensor | None = None, boxes: Tensor | None = None,
        mask: Tensor | None = None, several: bool = True,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Masks of P prompts.

        Args:
            points: [P, k, 2] x, y in pixels. labels: [P, k] 1 inside, 0 outside, -1 pads; None: all inside.
            boxes: [P, 4] x0, y0, x1, y1. mask: [H, W] in [0, 1], a rough mask; then P is 1.
            several: three masks of a prompt (whole, part, sub-part), else one.

        Returns:
            logits [P, M, h, w] float32 at the decoder's size, and the quality [P, M] that the model expects.
        """
        given: dict[str, Any] = dict(seen.given)
        if points is not None:
            given["input_points"] = self._to_network(seen, points)[None]
            labels = torch.ones(points.shape[:2], dtype=torch.int32) if labels is None else labels.to(torch.int32)
            given["input_labels"] = labels.to(self.device)[None]
        if boxes is not None:
            given["input_boxes"] = self._to_network(seen, boxes.reshape(-1, 2, 2)).reshape(1, -1, 4)
        if mask is not None:
            given["input_masks"] = self._mask_prompt(seen, mask)
        out = self.model(**given, multimask_output=several)
        return out.pred_masks[0].float(), out.iou_scores[0].float()

    def enlarge(self, seen: Seen, low: Tensor) -> Tensor:
        """Logits [P, M, h, w] of ``decode`` -> [P, M, H, W] at the picture's size."""
        out = self.processor.post_process_masks(low[None], **seen.about, binarize=False)
        enlarged: Tensor = torch.as_tensor(out[0]).float()
        return enlarged

    def _to_network(self, seen: Seen, points: Tensor) -> Tensor:
        scale = torch.tensor([seen.network[1] / seen.size[1], seen.network[0] / seen.size[0]])
        moved = points.float().cpu() * scale
        return moved.to(self.device, next(self.model.parameters()).dtype)

    def _mask_prompt(self, seen: Seen, mask: Tensor) -> Tensor:
        """[1, 1, m, m] logits in the network's square, below 0 where it is padding."""
        side = self._prompt_side()
        inner = [max(1, round(side * part / seen.side)) for part in seen.network]
        small = F.interpolate(mask.float().cpu()[None, None], size=inner, mode="bilinear", antialias=True)
        logits = torch.full((1, 1, side, side), -LOGIT)
        logits[:, :, : inner[0], : inner[1]] = torch.logit(small.clamp(0, 1), 1e-4).clamp(-LOGIT, LOGIT)
        return logits.to(self.device, next(self.model.parameters()).dtype)

    def _prompt_side(self) -> int:
        size = getattr(self.model.prompt_encoder, "mask_input_size", None)
        if size is not None:
            return int(size[0])
        return 4 * int(self.model.config.prompt_encoder_config.image_embedding_size)


def weights_folder(repo: str, offline: bool, example: str) -> Any:
    """The folder of REPO on the hub, or of a folder on this machine. Raises ValueError where none is named, as
    ``repo_folder`` and ``local_folder`` besides."""
    if not repo:
        raise ValueError(f"no model is named; write for example {example}")
    return local_folder(repo) if user_path(repo).is_dir() else repo_folder(repo, offline=offline)


_LOADED: OrderedDict[tuple[str, str], Sam] = OrderedDict()  # the last two


def load_sam(repo: str, device: str = "cpu", offline: bool = False) -> Sam:
    """A SAM of the hub, or of a folder that ``save_pretrained`` wrote, in float32; kept for the next call.

    Raises:
        UnsupportedBackbone: no SAM, or the installed transformers has no such class.
        WeightsNotFound, FileNotFoundError: it is not there and cannot be fetched.
    """
    import transformers

    if (repo, device) in _LOADED:
        return _LOADED[repo, device]
    folder = weights_folder(repo, offline, "sam:facebook/sam-vit-base")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    name = KINDS.get(config.model_type)
    if name is None:
        raise UnsupportedBackbone(f"sam:{repo} is a {config.model_type!r}; a SAM is needed: {', '.join(KINDS)}")
    _LOADED[repo, device] = Sam(read_model(folder, name, f"sam:{repo}", device), _processor(folder))
    if len(_LOADED) > 2:
        _LOADED.popitem(last=False)
    return _LOADED[repo, device]


def read_model(folder: Any, name: str, asked: str, device: str) -> Any:
    """The model of a class of transformers, strictly from safetensors. Raises UnsupportedBackbone, ValueError."""
    import transformers

    kind = getattr(transformers, name, None)
    if kind is None:
        raise UnsupportedBackbone(
            f"{asked}: transformers {transformers.__version__} has no {name}; install a newer one: "
            "pip install -U transformers"
        )
    try:
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # transformers' own kinds of error differ between releases
        raise UnsupportedBackbone(f"{asked}: {name} cannot read {folder} ({str(error).splitlines()[:1]})") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{asked}: {len(missing)} weights are missing in {folder}, such as {missing[0]!r}")
    return model.to(device)


def _processor(folder: Any) -> Any:
    from transformers import AutoImageProcessor

    kind: Any = AutoImageProcessor
    return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
