"""The installed objects, one module per part; each a pure function of the values."""
