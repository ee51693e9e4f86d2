"""Files of images and tables as arrays, without policy."""
