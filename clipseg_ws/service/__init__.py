"""The HTTP service: pictures and names in, masks out; and Label Studio's backend. Needs the extra ``serve``."""
