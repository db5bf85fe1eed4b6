"""Entry point of ``python -m fss.cli``."""

from fss.cli.main import main

if __name__ == "__main__":
    main()
