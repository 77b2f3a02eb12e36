"""Files that somebody else may have written: nothing is believed, executed, or allocated unseen.

limits       ``Limits``, ``read_bytes``, ``inside``: how much is read, and from where
strict_json  ``read_json``, ``parse_json``: strict JSON
tensors      ``read_tensors``, ``parse_tensors``: safetensors as numpy arrays
tables       ``read_rows``, ``read_records``: CSV with known columns, and JSON lines

Every reader raises ``MissingData`` where there is no file and ``CorruptFile``, naming the file and
where it can the line or the member, for everything else. What is altered into another well-formed
file of the same shape (a digit of a number) no reader can see: that is what the SHA-256 of
checkpoints, packages and data records is for.
"""

from flowpolicy.readers.limits import Limits as Limits
from flowpolicy.readers.limits import inside as inside
from flowpolicy.readers.limits import read_bytes as read_bytes
from flowpolicy.readers.strict_json import parse_json as parse_json
from flowpolicy.readers.strict_json import parse_object as parse_object
from flowpolicy.readers.strict_json import read_json as read_json
from flowpolicy.readers.strict_json import read_object as read_object
from flowpolicy.readers.tables import read_lines as read_lines
from flowpolicy.readers.tables import read_records as read_records
from flowpolicy.readers.tables import read_rows as read_rows
from flowpolicy.readers.tensors import parse_tensors as parse_tensors
from flowpolicy.readers.tensors import read_tensors as read_tensors
