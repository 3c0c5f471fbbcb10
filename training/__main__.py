"""`python -m openwit.training`: the command `wit-train`, in the form that torchrun takes."""

from openwit.training.cli.main import main

if __name__ == "__main__":
    main()
