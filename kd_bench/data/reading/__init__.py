"""Readers of data sets' files: archives, pickles, image decoding, downloads."""
