"""Run `python -m openwit.pipeline`: the command `wit`."""

from openwit.pipeline.cli.main import main

if __name__ == "__main__":
    main()
