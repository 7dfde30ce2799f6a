"""Models of several graphs (an encoder and its decoder, a transducer): captured as one module, compiled to a folder."""
