"""One acquisition, no Tango: prepares cameras and pipelines, connects them, keeps the state."""
