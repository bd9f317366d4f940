"""What can be set: the fields, the methods (named lists of steps with settings), the steps, and how they combine.

No torch is imported here, so that help texts and errors can name everything.
"""

from clipseg_ws.config.advice import check_advice
from clipseg_ws.config.fields import BACKGROUND_RULES, Config
from clipseg_ws.config.methods import METHODS
from clipseg_ws.config.settings import DEFAULT_METHOD, SETTINGS, flatten, parse_settings, resolve
from clipseg_ws.config.steps import STEPS

__all__ = [
    "BACKGROUND_RULES",
    "DEFAULT_METHOD",
    "METHODS",
    "SETTINGS",
    "STEPS",
    "Config",
    "check_advice",
    "flatten",
    "parse_settings",
    "resolve",
]
