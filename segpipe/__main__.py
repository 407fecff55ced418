"""`python -m segpipe` is the command line."""

from segpipe.cli import main

main()
