"""Types the sections of the config, a module a subject. `conf/schema.py` puts them together and names them all."""
