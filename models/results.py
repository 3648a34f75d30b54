"""The command of version 0.1; use `python -m statestream.models.experiments.results`."""

from statestream.models.experiments.results import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
