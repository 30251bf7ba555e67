"""Files: atomic writing, stamped HDF5 elements, stamped JSON documents."""
