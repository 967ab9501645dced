"""`python -m sojourn`: the command line without its script on the path."""

from sojourn.cli.main import run

if __name__ == "__main__":
    run()
