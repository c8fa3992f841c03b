"""How much of a file is read, said once. Whatever a file claims, no more than this is believed, held or written."""

FILE_BYTES = 3_000_000_000
"""Of an upload, of what it unpacks to, and of the arrays that are made of it, each."""
ENTRIES = 300_000
"""Of an archive: their names are held in memory, half a kilobyte each."""
NAME_CHARS = 1024
"""Of an entry's path."""
RATIO = 200
RATIO_FROM_BYTES = 64 * 2**20
"""What unpacks to more than this may be so many times as large as it is packed. Sorted labels reach 1000 : 1, but are
small; images of digits have 10 : 1."""
PIECE_BYTES = 4 * 2**20
"""Of what is read at once, except for one image or one row."""
EXAMPLES = 20_000_000
"""Of a part: each leaves a hash of 8 bytes in memory."""
FEATURES = 65_536
"""Of an example, steps of a sequence, and classes: what a layer can be wide."""
COLUMNS = 16_384
"""Of a table: each costs time, however few rows there are. Wider rows are an npz."""
CATEGORIES = 64
"""Values of a column that is taken for categorical unless it is said."""
PIXELS = 50_000_000
"""Of one image, before it is decoded."""
IMAGE_BYTES = 256 * 2**20
"""Of one image as it is stored in an archive."""
LABEL_CHARS = 200
SHOWN = 256
"""Classes, columns and entries that a report lists one by one."""
