"""``python -m gradconv``."""

from gradconv.cli import main

main()
