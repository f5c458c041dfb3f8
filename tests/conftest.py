from hypothesis import settings

# Machines are shared, so a slow example says nothing; tests that care for time measure it.
settings.register_profile("unet_nas", deadline=None)
settings.load_profile("unet_nas")
