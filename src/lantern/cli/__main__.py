"""`python -m lantern.cli`."""

from lantern.cli import main

if __name__ == "__main__":
    main()
