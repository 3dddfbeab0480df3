"""Files of data sets: archives, pickles, image decoding, downloads."""
