"""`python -m genpulse` is `genpulse`."""

from genpulse.cli import main

main()
