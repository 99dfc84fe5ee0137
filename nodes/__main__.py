"""`python -m nodes` is `topnode`."""

from nodes.cli import main

main()
