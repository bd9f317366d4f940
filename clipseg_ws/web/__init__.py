"""The page of ``clipseg-ws demo --web``. Only ``handlers``, ``page`` and ``server`` need gradio."""
