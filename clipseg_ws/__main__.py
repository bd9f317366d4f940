"""``python -m clipseg_ws``: the command line, also for ``accelerate launch -m clipseg_ws train ...``."""

from clipseg_ws.cli.app import main

if __name__ == "__main__":
    main()
