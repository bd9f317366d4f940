"""The weights of the embedded model ``photo``, for tests that need them."""

from __future__ import annotations

import pytest

from clipseg_ws.embedded.photo import WEIGHTS

needs_photo = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"the weights of photo are not in {WEIGHTS.parent}")
