"""unet_nas: describe, check, audit and search spaces of U-Nets."""
