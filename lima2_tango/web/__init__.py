"""The page: what a browser shows of a running system, and what it may ask of it. Speaks to Tango through `client/`."""
