"""Lets ``python -m unet_nas.cli`` run the command line."""

from unet_nas.cli import main

main()
