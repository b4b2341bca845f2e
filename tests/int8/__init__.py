"""What needs NNCF: `make calibrate`."""
