"""What needs NNCF: `make int8`."""
