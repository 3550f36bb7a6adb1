"""Network families, one file each; every operation on a feature map is a module, so that hooks and graphs see it."""
