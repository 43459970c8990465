"""A detector of Dectris as the network sees it: the SIMPLON REST interface, and its two streams.

What it says is documented in public: the second version of the stream by https://github.com/dectris/documentation, the
trigger modes by the EIGER2 user manual, keys and defaults by the simulators of others. Its encoders are its own and
share nothing with the plugin's decoders: each checks the other.
"""
