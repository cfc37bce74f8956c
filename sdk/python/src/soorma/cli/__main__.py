"""`python -m soorma.cli`: the same as `soorma`, for when its script is not on the PATH."""

from soorma.cli.main import main

if __name__ == "__main__":
    main()
