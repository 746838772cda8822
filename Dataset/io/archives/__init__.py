"""Containers of others (zip, HDF5, MATLAB): what they promise is bounded before anything is unpacked."""
