"""What other libraries' readers do with the images that people have, beside ours.

`cases` makes small folders by code, `peers` reads them with one library each, `words` says in a few
words what arrived, `page` lays it out, and `python -m experiments.readers` runs it all.
"""
