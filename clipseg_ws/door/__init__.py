"""The one door for files from outside: what is read from disk, looked at before it is decoded, under limits.

Nothing else in the product opens a file that somebody else made. Whatever is wrong with it becomes one ``InputError``
that says file, place, what is wrong and what to do; the limits stand in ``limits.LIMITS``. No torch; Pillow, YAML and
pyarrow are imported on call.
"""

from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.limits import LIMITS, limit
from clipseg_ws.door.plain import read_data, read_text, regular, user_path

__all__ = ["LIMITS", "InputError", "limit", "read_data", "read_text", "reading", "regular", "user_path"]
